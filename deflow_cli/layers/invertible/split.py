"""Split: half of the channels becomes a latent, normalised by a network that sees the other half."""

from __future__ import annotations

import torch
from torch import Tensor

from deflow_cli.layers.invertible.base import Bijection, Condition
from deflow_cli.layers.invertible.variant import DEFLOW
from deflow_cli.layers.networks.conditioned import ZeroConv3x3


class Split(Bijection):
    """(z1, z2) to (z1, latent), latent = (z2 - mean(z1)) / (exp(logs(z1)) + eps); log-det -sum(logs).

    z1 goes on; the latent is the last ``latent_channels`` of the output. The published DeFlow encoding has
    an eps of 1e-6 that is missing in its log-det and in its decoding. It is kept, so that published models
    give their published numbers, and costs about 1e-6 per dimension. SRFlow's eps is 0.
    """

    def __init__(self, channels: int, eps: float = DEFLOW.split_eps) -> None:
        super().__init__()
        self.eps = eps
        self.kept_channels = channels // 2
        self.latent_channels = channels - self.kept_channels
        self.conv = ZeroConv3x3(self.kept_channels, 2 * self.latent_channels)

    def forward(self, x_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        z1, z2 = self.parted(x_bchw)
        mean, logs = self._prior(z1)
        latent = (z2 - mean) / (torch.exp(logs) + self.eps)
        return torch.cat((z1, latent), dim=1), -logs.flatten(1).sum(1)

    def inverse(self, z_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        z1, latent = self.parted(z_bchw)
        mean, logs = self._prior(z1)
        return torch.cat((z1, latent * torch.exp(logs) + mean), dim=1), logs.flatten(1).sum(1)

    def _prior(self, z1: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of z2 given z1."""
        raw = self.conv(z1)
        return raw[:, 0::2], raw[:, 1::2]
