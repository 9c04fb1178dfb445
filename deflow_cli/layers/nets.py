"""Nets: the small convolutional networks that drive couplings, injectors and splits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .actnorm import ActNorm


class ZeroConv3x3(nn.Module):
    """3x3 convolution that starts at zero, its output times exp(3 logs) (Glow's "conv zeros")."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.logs = nn.Parameter(torch.zeros(out_channels, 1, 1))

    def forward(self, x_bchw: Tensor) -> Tensor:
        return F.conv2d(x_bchw, self.weight, self.bias, padding=1) * torch.exp(self.logs * 3.0)


class CouplingNet(nn.Module):
    """conv 3x3, ActNorm, ReLU, conv 1x1, ActNorm, ReLU, zero conv 3x3, of (z1, ft).

    The first convolution is linear in its input, so the part that sees the features ft is computed by
    ``condition_term`` once per image and reused by every encode, decode and further sample.
    """

    def __init__(
        self,
        z_channels: int,
        condition_channels: int,
        hidden_channels: int,
        out_channels: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        inputs = z_channels + condition_channels
        self.z_channels = z_channels
        self.weight_in = nn.Parameter(torch.empty(hidden_channels, inputs, 3, 3))
        self.norm_in = ActNorm(hidden_channels)
        self.weight_mid = nn.Parameter(torch.empty(hidden_channels, hidden_channels, 1, 1))
        self.norm_mid = ActNorm(hidden_channels)
        self.conv_out = ZeroConv3x3(hidden_channels, out_channels)
        with torch.no_grad():
            self.weight_in.normal_(0.0, 0.05, generator=generator)
            self.weight_mid.normal_(0.0, 0.05, generator=generator)

    def condition_term(self, features_bchw: Tensor) -> Tensor:
        """The first convolution restricted to the features (B hidden H W)."""
        return F.conv2d(features_bchw, self.weight_in[:, self.z_channels :], padding=1)

    def hidden(self, z1_bchw: Tensor | None, condition_term: Tensor | None) -> Tensor:
        """Activations before the last convolution. ``z1_bchw`` or ``condition_term`` may be absent."""
        if z1_bchw is None:
            assert condition_term is not None
            x = condition_term
        else:
            x = F.conv2d(z1_bchw, self.weight_in[:, : self.z_channels], padding=1)
            if condition_term is not None:
                x = x + condition_term
        x = F.relu(self.norm_in.scale(x))
        return F.relu(self.norm_mid.scale(F.conv2d(x, self.weight_mid)))

    def forward(self, z1_bchw: Tensor | None, condition_term: Tensor | None) -> Tensor:
        return self.conv_out(self.hidden(z1_bchw, condition_term))
