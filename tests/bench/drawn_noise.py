"""Network-free noise drawn from a torch generator: what the benches add, and what tests measure."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deflow_cli.degraders.noise.spectral import SPECTRUM_SIDE, SpectralNoise


@dataclass(frozen=True)
class WhiteNoise:
    """White Gaussian noise of one std on the [0, 1] scale, independent per pixel and channel."""

    sigma: float

    def degrade(self, image_bchw: Tensor, generator: torch.Generator) -> Tensor:
        """The noisy picture, in [0, 1]."""
        noise = torch.randn(
            image_bchw.shape, generator=generator, device=image_bchw.device, dtype=image_bchw.dtype
        )
        return (image_bchw + self.sigma * noise).clamp(0, 1)


@dataclass(frozen=True)
class DrawnSpectralNoise:
    """Spectral noise of a torch generator."""

    noise: SpectralNoise

    def sample(self, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
        """Noise B x 3 x H x W (shape is B, H, W), float64."""
        batch, height, width = shape
        size = (height + SPECTRUM_SIDE - 1, width + SPECTRUM_SIDE - 1)
        white = torch.randn((batch, 3, *size), generator=generator, dtype=torch.float64)
        return self.noise.colour(list(white))

    def degrade(self, image_bchw: Tensor, generator: torch.Generator) -> Tensor:
        """The noisy picture, in [0, 1]."""
        batch, _, height, width = image_bchw.shape
        noise = self.sample((batch, height, width), generator)
        return (image_bchw + noise.to(image_bchw)).clamp(0, 1)
