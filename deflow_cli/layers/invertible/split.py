"""Split: half of the channels becomes a latent, normalised by a net of the other half."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deflow_cli.layers.networks.conditioned import ZeroConv3x3

PUBLISHED_EPS = 1e-6


class Split(nn.Module):
    """z1 goes on; the latent is (z2 - mean(z1)) / (exp(logs(z1)) + 1e-6); log-det -sum(logs).

    The 1e-6 stands in the published encoding alone, neither in its log-det nor in its decoding: about
    1e-6 per dimension, kept so that published models give their published numbers.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kept_channels = channels // 2
        self.latent_channels = channels - self.kept_channels
        self.conv = ZeroConv3x3(self.kept_channels, 2 * self.latent_channels)

    def _prior(self, z1: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.conv(z1)
        return raw[:, 0::2], raw[:, 1::2]

    def forward(self, z_bchw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns (kept z1, latent, log-det per sample)."""
        z1, z2 = z_bchw[:, : self.kept_channels], z_bchw[:, self.kept_channels :]
        mean, logs = self._prior(z1)
        latent = (z2 - mean) / (torch.exp(logs) + PUBLISHED_EPS)
        return z1, latent, -logs.flatten(1).sum(1)

    def inverse(self, z1: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (z, log-det per sample)."""
        mean, logs = self._prior(z1)
        return torch.cat((z1, latent * torch.exp(logs) + mean), dim=1), logs.flatten(1).sum(1)
