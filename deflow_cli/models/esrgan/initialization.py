"""Start: an RRDBNet that passes its input, enlarged, unchanged, so that training begins there."""

from __future__ import annotations

import torch
from torch import nn

from deflow_cli.models.esrgan.generator import RRDBNet


@torch.no_grad()
def start_identity(model: RRDBNet) -> None:
    """Carry the input's colours through features 0 to C - 1 of every layer, by nearest neighbour.

    The other features keep their random start and reach the output by weights that begin at zero. Pixels that
    were unshuffled into channels are averaged. Exact for inputs in [0, 1]: activations leave those as they
    are. (ESRGAN starts at random, and needs thousands of steps to draw the input.)
    """
    colours, cell = model.config.image_channels, model.config.unshuffle_factor**2
    assert model.config.channels >= colours, "too few features to carry the colours"
    for colour in range(colours):
        _clear(model.conv_first, colour)
        model.conv_first.weight[colour, colour * cell : (colour + 1) * cell, 1, 1] = 1.0 / cell
        _clear(model.conv_body, colour)
    ups = [model.get_submodule(f"conv_up{index}") for index in range(1, model.config.doublings + 1)]
    for conv in (*ups, model.conv_hr):
        assert isinstance(conv, nn.Conv2d)
        for colour in range(colours):
            _clear(conv, colour)
            conv.weight[colour, colour, 1, 1] = 1.0
    for colour in range(colours):
        _clear(model.conv_last, colour)
        model.conv_last.weight[colour, colour, 1, 1] = 1.0


def _clear(conv: nn.Conv2d, output: int) -> None:
    conv.weight[output] = 0.0
    assert conv.bias is not None
    conv.bias[output] = 0.0
