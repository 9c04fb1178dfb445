"""KernelGAN's discriminator: does a pixel's 7 x 7 surroundings look like the picture's?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

FIELD = 7
_BLOCKS = 5
_EPS = 1e-5  # of the batch normalisation
_NORM_EPS = 1e-12


class SurroundingsDiscriminator(nn.Module):
    """Several discriminators side by side, one for each picture.

    Each: a 7 x 7 convolution from 3 to ``width`` channels; five times a 1 x 1 convolution, batch
    normalisation and ReLU; a 1 x 1 convolution to one channel and a sigmoid. All weights are divided by their
    largest singular value (spectral normalisation), which one step of power iteration follows in each call of
    ``normalised``. A map is normalised by its own mean and variance, which makes a bias before it void: the
    five have none.
    """

    def __init__(self, seeds: Sequence[int], width: int = 64) -> None:
        """seeds: of the N starts: PyTorch's start of a convolution, biases 0."""
        super().__init__()
        count = len(seeds)
        shapes = [(width, 3 * FIELD * FIELD)] + [(width, width)] * _BLOCKS + [(1, width)]
        starts = [_start(shapes, seed) for seed in seeds]
        columns = [list(zip(*group, strict=True)) for group in zip(*starts, strict=True)]
        weights, scales, guesses = ([torch.stack(one) for one in group] for group in columns)
        self.weights = nn.ParameterList(weights)
        self.biases = nn.ParameterList([torch.zeros(count, shapes[0][0], 1), torch.zeros(count, 1, 1)])
        self.scales = nn.ParameterList(scales)
        self.shifts = nn.ParameterList([torch.zeros(count, width, 1) for _ in range(_BLOCKS)])
        for number, guess in enumerate(guesses):
            self.register_buffer(f"guess_{number}", guess)

    def normalised(self) -> list[Tensor]:
        """The weights over their largest singular values, after one step of power iteration."""
        results = []
        for number, weight in enumerate(self.weights):
            left = getattr(self, f"guess_{number}")
            with torch.no_grad():
                right = functional.normalize(weight.transpose(1, 2) @ left, dim=1, eps=_NORM_EPS)
                left.copy_(functional.normalize(weight @ right, dim=1, eps=_NORM_EPS))
                left = left.clone()
            size = left.transpose(1, 2) @ (weight @ right)
            results.append(weight / size)
        return results

    def forward(self, crops: Tensor, weights: list[Tensor]) -> Tensor:
        """How real each surroundings is, 0 to 1. crops: N x M x 3 x H x W, M for each discriminator.

        weights: of ``normalised``. Returns N x M x ((H - 6) (W - 6)).
        """
        count, many = crops.shape[:2]
        windows = functional.unfold(crops.flatten(0, 1), FIELD)
        places = windows.shape[-1]
        x = windows.reshape(count, many, -1, places).transpose(1, 2).reshape(count, -1, many * places)
        x = torch.baddbmm(self.biases[0], weights[0], x)
        for number in range(_BLOCKS):
            maps = torch.bmm(weights[number + 1], x).reshape(1, -1, places)
            scale, shift = (
                part.repeat(1, 1, many).flatten() for part in (self.scales[number], self.shifts[number])
            )
            maps = functional.batch_norm(maps, None, None, scale, shift, training=True, eps=_EPS)
            x = functional.relu_(maps).reshape(count, -1, many * places)
        x = torch.baddbmm(self.biases[1], weights[-1], x)
        return torch.sigmoid(x).reshape(count, many, places)


def _start(shapes: list[tuple[int, int]], seed: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Weights, scales of the normalisation (N(1, 0.02)) and guesses at the left singular vectors."""
    random = torch.Generator().manual_seed(seed)
    weights, guesses = [], []
    for outputs, inputs in shapes:
        bound = 1 / math.sqrt(inputs)
        weights.append((torch.rand(outputs, inputs, generator=random) * 2 - 1) * bound)
        guesses.append(functional.normalize(torch.randn(outputs, 1, generator=random), dim=0))
    width = shapes[0][0]
    scales = [1 + 0.02 * torch.randn(width, 1, generator=random) for _ in range(_BLOCKS)]
    return weights, scales, guesses
