"""White Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deflow_cli.degraders.base import Draw, add_noise, check_draws
from deflow_cli.inference.positional_noise import PositionalNoise


@dataclass(frozen=True)
class WhiteNoiseDegrader:
    """Adds Gaussian noise, independent per pixel and channel. sigma: its std, on the [0, 1] scale.

    >>> grey = torch.full((1, 3, 64, 64), 0.5)
    >>> noisy = WhiteNoiseDegrader(0.04).degrade(grey, [Draw(seed=0, key="photo.png")])
    >>> round((noisy - grey).std().item(), 3)
    0.04
    """

    sigma: float

    def degrade(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        check_draws(image_bchw, draws)
        height, width = image_bchw.shape[-2:]
        noise = [
            self.sigma
            * draw.temperature
            * PositionalNoise(draw.seed, draw.key).normal(f"white {draw.sample}", 3, 0, 0, height, width)
            for draw in draws
        ]
        return add_noise(image_bchw, torch.cat(noise))
