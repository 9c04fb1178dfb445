"""Split: half of the channels becomes a latent, normalised by a network of the other half."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from deflow_cli.layers.invertible.base import Bijection, LayerOutput, StepCondition
from deflow_cli.layers.networks.conditioned import ZeroConv3x3

PUBLISHED_EPS = 1e-6  # of DeFlow; SRFlow has 0


class Split(Bijection):
    """z1 goes on; the latent is (z2 - mean(z1)) / (exp(logs(z1)) + eps); log-det -sum(logs).

    ``eps`` stands in the encoding alone, as in the published DeFlow (1e-6), neither in its log-det nor in its
    decoding: the round trip is off by about 1e-6, kept so that published models give their published numbers.
    SRFlow has eps = 0. ``encode`` gives the latent apart; ``forward`` gives (z1, latent) as one tensor.
    """

    factors_out: ClassVar[bool] = True

    def __init__(self, channels: int, eps: float = PUBLISHED_EPS) -> None:
        super().__init__()
        self.eps = eps
        self.kept_channels = channels // 2
        self.latent_channels = channels - self.kept_channels
        self.conv = ZeroConv3x3(self.kept_channels, 2 * self.latent_channels)

    def _mean_and_logs(self, z1: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.conv(z1)
        return raw[:, 0::2], raw[:, 1::2]

    def encode(self, x_bchw: Tensor, condition: StepCondition | None = None) -> LayerOutput:
        z1, z2 = x_bchw[:, : self.kept_channels], x_bchw[:, self.kept_channels :]
        mean, logs = self._mean_and_logs(z1)
        latent = (z2 - mean) / (torch.exp(logs) + self.eps)
        return LayerOutput(z1, -logs.flatten(1).sum(1), latent)

    def decode(
        self, z_bchw: Tensor, condition: StepCondition | None = None, latent: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        assert latent is not None
        mean, logs = self._mean_and_logs(z_bchw)
        return torch.cat((z_bchw, latent * torch.exp(logs) + mean), dim=1), logs.flatten(1).sum(1)

    def forward(self, x_bchw: Tensor, condition: StepCondition | None = None) -> tuple[Tensor, Tensor]:
        z1, log_det, latent = self.encode(x_bchw)
        assert latent is not None
        return torch.cat((z1, latent), dim=1), log_det

    def inverse(self, z_bchw: Tensor, condition: StepCondition | None = None) -> tuple[Tensor, Tensor]:
        return self.decode(z_bchw[:, : self.kept_channels], latent=z_bchw[:, self.kept_channels :])
