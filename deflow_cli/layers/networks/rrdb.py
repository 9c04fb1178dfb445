"""RRDB blocks: residual-in-residual dense blocks (ESRGAN, ECCVW 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualDenseBlock(nn.Module):
    """Five densely connected 3x3 convolutions, x + 0.2 x5. Convolutions start at 0.1 times Kaiming normal."""

    def __init__(self, channels: int, growth_channels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        for index in range(5):
            inputs = channels + index * growth_channels
            outputs = growth_channels if index < 4 else channels
            conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            with torch.no_grad():
                if not conv.weight.is_meta:  # there a normal draw would import torch's compiler for seconds
                    conv.weight.normal_(0.0, 0.1 * (2.0 / (inputs * 9)) ** 0.5, generator=generator)
                assert conv.bias is not None
                nn.init.zeros_(conv.bias)
            setattr(self, f"conv{index + 1}", conv)

    def forward(self, x_bchw: Tensor) -> Tensor:
        stack = [x_bchw]
        for index in range(1, 5):
            conv = getattr(self, f"conv{index}")
            stack.append(F.leaky_relu(conv(torch.cat(stack, dim=1)), 0.2))
        return x_bchw + 0.2 * self.get_submodule("conv5")(torch.cat(stack, dim=1))


class RRDB(nn.Module):
    """Three dense blocks with an outer residual, x + 0.2 f(x)."""

    def __init__(self, channels: int, growth_channels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(channels, growth_channels, generator)
        self.rdb2 = ResidualDenseBlock(channels, growth_channels, generator)
        self.rdb3 = ResidualDenseBlock(channels, growth_channels, generator)

    def forward(self, x_bchw: Tensor) -> Tensor:
        return x_bchw + 0.2 * self.rdb3(self.rdb2(self.rdb1(x_bchw)))


def conv3x3(inputs: int, outputs: int, generator: torch.Generator | None = None) -> nn.Conv2d:
    """3x3 convolution started as PyTorch does (uniform within 1 / sqrt(fan_in)), but from ``generator``."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    limit = (inputs * 9) ** -0.5
    with torch.no_grad():
        conv.weight.uniform_(-limit, limit, generator=generator)
        assert conv.bias is not None
        conv.bias.uniform_(-limit, limit, generator=generator)
    return conv
