"""What KernelGAN asks of a kernel beside fooling the discriminator, and when (paper, section 4.2).

All means; the kernel is the correlation kernel of ``generator.DeepLinearGenerator.kernels``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from deflow_cli.models.kernelgan.generator import GENERATOR_SCALE, RECEPTIVE_FIELD, apply_kernels

MIDDLE = RECEPTIVE_FIELD // 2 + 0.5  # the centre of mass that aligns with bicubic down-sampling
_TAPS = (-3, -9, 29, 111, 111, 29, -9, -3)  # of MATLAB's bicubic down-sampling by 2, over 256
_ALIKE = 0.4 / 9  # squared difference from bicubic down-sampling, below which the generator does the same
_ALIKE_STEPS = 3  # in a row
_EVERY = 200  # steps between the falls of the bicubic weight
_FALL = 100.0
_LEAST_BICUBIC = 5e-6
_SETTLED = 5e-3  # bicubic weight below which the last two constraints begin
_BICUBIC, _SUM, _BOUNDARIES, _CENTRE, _SPARSE = 5.0, 0.5, 0.5, 1.0, 5.0


def bicubic_half(images_nchw: Tensor, rim: int) -> Tensor:
    """Bicubic down-sampling by 2 of each channel alone, without ``rim`` px on every side of the result."""
    taps = torch.tensor(_TAPS, dtype=images_nchw.dtype, device=images_nchw.device) / 256
    kernels = torch.outer(taps, taps).expand(len(images_nchw), -1, -1)
    small = apply_kernels(functional.pad(images_nchw, (3, 3, 3, 3)), kernels)
    return small[..., rim:-rim, rim:-rim]


class KernelConstraints:
    """The constraints on N kernels, each with the weights of its own progress.

    At first the generator learns bicubic down-sampling. Once its squared difference from that was small for
    three steps in a row, the weight of this term falls to a hundredth at every 200th step; with it below 5e-3
    the kernel must also be centred and sparse.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        places = torch.arange(RECEPTIVE_FIELD, dtype=torch.float32, device=device)
        bell = torch.exp(-((places - RECEPTIVE_FIELD // 2) ** 2) / (2 * RECEPTIVE_FIELD**2))
        self._places = places
        self._rim = 30 * (1 - torch.outer(bell, bell) / bell.max() ** 2)
        self._rim[2:-2, 2:-2] = 0
        self._bicubic = torch.full((count,), _BICUBIC, device=device)
        self._alike = torch.zeros(count, dtype=torch.long, device=device)
        self._settled = torch.zeros(count, dtype=torch.bool, device=device)

    def loss(self, kernels: Tensor, difference: Tensor) -> Tensor:
        """The weighted constraints of each kernel, N. difference: of ``bicubic_difference``."""
        total = kernels.sum((1, 2))
        loss = self._bicubic * difference + _SUM * (1 - total).abs()
        loss = loss + _BOUNDARIES * (kernels * self._rim).abs().mean((1, 2))
        masses = torch.stack([kernels.sum(2) @ self._places, kernels.sum(1) @ self._places], 1)
        off_centre = ((masses / total[:, None] - MIDDLE) ** 2).mean(1)
        # The root's slope is infinite at 0, where a weight is as sparse as it can be.
        sparse = kernels.abs().clamp_min(1e-12).pow(0.2).mean((1, 2))
        return loss + torch.where(self._settled, _CENTRE * off_centre + _SPARSE * sparse, 0.0)

    def after_step(self, step: int, difference: Tensor) -> None:
        """Follow the schedule after a step, counted from 0."""
        counted = torch.where(difference < _ALIKE, self._alike + 1, 0)
        self._alike = torch.where(self._alike >= _ALIKE_STEPS, self._alike, counted)
        if step % _EVERY == 0:
            lower = (self._bicubic / _FALL).clamp_min(_LEAST_BICUBIC)
            self._bicubic = torch.where(self._alike >= _ALIKE_STEPS, lower, self._bicubic)
            self._settled |= self._bicubic < _SETTLED


def bicubic_difference(small: Tensor, crops: Tensor) -> Tensor:
    """Mean squared difference of N down-sampled crops from bicubic down-sampling, N."""
    rim = (crops.shape[-1] // GENERATOR_SCALE - small.shape[-1]) // 2
    return ((small - bicubic_half(crops, rim)) ** 2).mean((1, 2, 3))
