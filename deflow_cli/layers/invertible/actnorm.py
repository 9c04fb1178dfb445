"""ActNorm: a learned affine map per channel, initialised from data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deflow_cli.layers.invertible.base import Bijection, Condition, times_positions


class ActNorm(Bijection):
    """y = (x + bias) exp(logs) per channel; log-det = H W sum(logs) (Glow, NeurIPS 2018, section 3.1).

    Set ``pending = True`` before a forward pass to initialise it from that batch: the output then has zero
    mean and unit population standard deviation in each channel.

    >>> layer = ActNorm(3)
    >>> layer.pending = True
    >>> y, log_det = layer(torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    >>> bool(y.mean((0, 2, 3)).abs().max() < 1e-5), layer.pending
    (True, False)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.logs = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.pending = False

    @torch.no_grad()
    def start_from(self, x_bchw: Tensor) -> None:
        """Initialise from a batch: bias = -mean, logs = -log(std + 1e-6) over batch and positions."""
        std, mean = torch.std_mean(x_bchw.float(), dim=(0, 2, 3), keepdim=True, correction=0)
        self.bias.copy_(-mean)
        self.logs.copy_(-torch.log(std + 1e-6))
        self.pending = False

    def scale(self, x_bchw: Tensor) -> Tensor:
        """The affine map alone, without its log-det (for use inside the networks)."""
        if self.pending:
            self.start_from(x_bchw)
        return (x_bchw + self.bias) * torch.exp(self.logs)

    def into(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (O I kh kw) and bias of a convolution equal to one without bias followed by this map."""
        factor = torch.exp(self.logs)
        return weight * factor.view(-1, 1, 1, 1), (self.bias * factor).flatten()

    def forward(self, x_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        y_bchw = self.scale(x_bchw)
        return y_bchw, times_positions(self.logs.sum(), x_bchw)

    def inverse(self, z_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return z_bchw * torch.exp(-self.logs) - self.bias, -times_positions(self.logs.sum(), z_bchw)


def start_actnorms_from_next_batch(module: nn.Module) -> None:
    """Make every ActNorm inside a module, at any depth, initialise itself from the next batch it sees."""
    for inner in module.modules():
        if isinstance(inner, ActNorm):
            inner.pending = True
