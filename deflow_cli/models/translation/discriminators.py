"""Discriminators of fine detail: a probability of being real for each pixel."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from deflow_cli.layers.networks.patch_discriminator import SLOPE, Normalisation, draw_start, normalise


class FrequencyDiscriminator(nn.Module):
    """The discriminator of DSGAN (batch normalisation) and DASR (instance normalisation).

    B x C x H x W, the fine part of a picture, to probabilities B x 1 x H x W in (0, 1): convolutions 5 x 5 to
    C, 2 C and 4 C features, of stride 1, the last two normalised, and one of 1 x 1. A value sees 13 px.
    Start: PyTorch's defaults, drawn from ``generator``.
    """

    def __init__(
        self,
        inputs: int = 3,
        channels: int = 64,
        normalisation: Normalisation = "batch",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(inputs, channels, 5, padding=2),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(channels, 2 * channels, 5, padding=2),
            normalise(normalisation, 2 * channels),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(2 * channels, 4 * channels, 5, padding=2),
            normalise(normalisation, 4 * channels),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(4 * channels, 1, 1),
        )
        draw_start(self, generator)

    def forward(self, detail_bchw: Tensor) -> Tensor:
        return torch.sigmoid(cast(Tensor, self.model(detail_bchw)))
