"""Start: an RRDBNet that passes its input, enlarged, unchanged, so that training begins there."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deflow_cli.models.esrgan.generator import RRDBNet

# Outer weights of three-tap filters of sum 1 behind each doubling, then in conv_hr and conv_last. Behind a
# doubling by nearest neighbour, [1 2 1] / 4 is bilinear interpolation. Cubic convolution (a = -1/2) by two is
# that and (sqrt(11) + sqrt(3) cos w) (sqrt(11) - sqrt(3) cos w) / 8; by four, the filters of least squares.
_SMOOTHING, _SHARPENING = (math.sqrt(3) / 2 / (math.sqrt(11) + sign * math.sqrt(3)) for sign in (1, -1))
_BICUBIC = {
    0: (0.0, 0.0),
    1: (0.25, _SMOOTHING, -_SHARPENING),
    2: (0.25, 0.25, 0.3083, -2.0271),
}


def start_identity(model: RRDBNet) -> None:
    """Carry the input's colours through features 0 to C - 1 of every layer, by nearest neighbour.

    The other features keep their random start and reach the output by weights that begin at zero. Pixels that
    were unshuffled into channels are averaged. Exact for inputs in [0, 1]: activations leave those as they
    are. (ESRGAN starts at random, and needs thousands of steps to draw the input.)
    """
    _carry(model, [0.0] * (model.config.doublings + 2))


def start_bicubic(model: RRDBNet) -> None:
    """As ``start_identity``, but enlarged by bicubic interpolation (Keys, a = -1/2).

    Away from the borders exact with one doubling, nearly so with two; more of them interpolate bilinearly.
    """
    doublings = model.config.doublings
    _carry(model, _BICUBIC.get(doublings, [0.25] * doublings + [0.0, 0.0]))


@torch.no_grad()
def _carry(model: RRDBNet, filters: Sequence[float]) -> None:
    """filters: outer weight of the three-tap filter behind each doubling, in conv_hr and in conv_last."""
    colours, cell = model.config.image_channels, model.config.unshuffle_factor**2
    assert model.config.channels >= colours, "too few features to carry the colours"
    for colour in range(colours):
        _clear(model.conv_first, colour)
        model.conv_first.weight[colour, colour * cell : (colour + 1) * cell, 1, 1] = 1.0 / cell
        _clear(model.conv_body, colour)
    ups = [model.get_submodule(f"conv_up{index}") for index in range(1, model.config.doublings + 1)]
    kernels = [_separable(side) for side in filters]
    # conv_last's large weights would pass changes of conv_hr on enlarged: both get weights of one size
    gain = math.sqrt(float(kernels[-1].max() / kernels[-2].max()))
    kernels[-2], kernels[-1] = kernels[-2] * gain, kernels[-1] / gain
    for conv, kernel in zip((*ups, model.conv_hr, model.conv_last), kernels, strict=True):
        assert isinstance(conv, nn.Conv2d)
        for colour in range(colours):
            _clear(conv, colour)
            conv.weight[colour, colour] = kernel


def _separable(side: float) -> Tensor:
    """The 3 x 3 filter of sum 1 whose rows and columns are (side, 1 - 2 side, side)."""
    taps = torch.tensor([side, 1.0 - 2.0 * side, side])
    return torch.outer(taps, taps)


def _clear(conv: nn.Conv2d, output: int) -> None:
    conv.weight[output] = 0.0
    assert conv.bias is not None
    conv.bias[output] = 0.0
