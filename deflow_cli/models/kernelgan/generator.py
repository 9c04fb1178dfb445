"""KernelGAN's generator: a deep linear network that down-samples by 2, and the one kernel that it is.

Bell-Kligler, Shocher, Irani: Blind Super-Resolution Kernel Estimation using an Internal-GAN (NeurIPS 2019),
section 4. A network without activations is one convolution; trained through its layers it finds better
kernels than when its kernel is trained itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

GENERATOR_SCALE = 2
_FILTER_SIDES = (7, 5, 3, 1, 1, 1)  # of the layers' filters
RECEPTIVE_FIELD = 1 + sum(side - 1 for side in _FILTER_SIDES)  # 13, the receptive field
_GAIN = 0.1


class DeepLinearGenerator(nn.Module):
    """Several generators side by side, one for each picture, that share nothing but their time.

    Each is a chain of bias-free convolutions with filters of 7, 5, 3, 1, 1, 1 and ``width`` channels between,
    the last with stride 2, applied to every colour alone. The first weight is N x W x 7 x 7, the inner ones
    N x W x W x s x s, the last N x W.
    """

    def __init__(self, seeds: Sequence[int], width: int = 64) -> None:
        """seeds: of the N starts: Xavier's normal with gain 0.1."""
        super().__init__()
        shapes = (
            [(width, 1, _FILTER_SIDES[0])]
            + [(width, width, side) for side in _FILTER_SIDES[1:-1]]
            + [(1, width, 1)]
        )
        starts = [_start(shapes, seed) for seed in seeds]
        self.weights = nn.ParameterList([torch.stack(layer) for layer in zip(*starts, strict=True)])

    def kernels(self) -> Tensor:
        """The kernel each generator is, N x 13 x 13: correlated with an image and sampled at every 2nd pixel.

        The layers are merged from the last to the first, each step the full convolution of its filters with
        what follows, so that what is carried along has one output channel.
        """
        merged: Tensor = self.weights[-1].flatten(1).unsqueeze(-1)  # N x W x (side x side)
        side = 1
        for weight in list(self.weights)[-2::-1]:
            count, outputs, inputs, own = weight.shape[:4]
            spread = merged.transpose(1, 2) @ weight.reshape(
                count, outputs, -1
            )  # N x side^2 x (inputs own^2)
            if own == 1:
                merged = spread.reshape(count, side * side, inputs).transpose(1, 2)
                continue
            blocks = spread.reshape(count, side * side, inputs, own * own).transpose(1, 2)
            total = side + own - 1
            folded = functional.fold(
                blocks.reshape(count, inputs * side * side, own * own), (total, total), (side, side)
            )
            merged, side = folded.flatten(2), total
        return merged.reshape(-1, side, side)

    def layer_by_layer(self, images_nchw: Tensor) -> Tensor:
        """Down-sample N images, C x H x W each, through the layers: ``apply_kernels`` in another order."""
        count = len(images_nchw)
        x = images_nchw.transpose(0, 1)  # each colour is a picture of its own
        for number, weight in enumerate(self.weights):
            filters = weight.flatten(0, 1)
            stride = GENERATOR_SCALE if number == len(self.weights) - 1 else 1
            x = functional.conv2d(x, filters, stride=stride, groups=count)
        return x.transpose(0, 1)


def _start(shapes: list[tuple[int, int, int]], seed: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    weights = []
    for outputs, inputs, side in shapes:
        std = _GAIN * math.sqrt(2 / ((outputs + inputs) * side * side))
        weights.append(torch.randn(outputs, inputs, side, side, generator=random) * std)
    return weights


def apply_kernels(images_nchw: Tensor, kernels: Tensor, stride: int = GENERATOR_SCALE) -> Tensor:
    """Correlate N images, C x H x W, each with one of N kernels K x K, and keep every ``stride``-th pixel.

    Only whole windows count: a side of S pixels becomes (S - K) // stride + 1.
    """
    moved = images_nchw.transpose(0, 1)
    filtered = functional.conv2d(moved, kernels.unsqueeze(1), stride=stride, groups=len(kernels))
    return filtered.transpose(0, 1)
