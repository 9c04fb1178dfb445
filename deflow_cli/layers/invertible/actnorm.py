"""ActNorm: a learned affine map per channel, started from data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deflow_cli.layers.invertible.base import Bijection


class ActNorm(Bijection):
    """y = (x + bias) exp(logs) per channel; log-det = H W sum(logs) (Glow, NeurIPS 2018, section 3.1).

    Set ``pending = True`` before a forward pass to start it from that batch: zero mean, unit population
    standard deviation per channel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.logs = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.pending = False

    @torch.no_grad()
    def start_from(self, x_bchw: Tensor) -> None:
        """Data-dependent start: bias = -mean, logs = -log(std + 1e-6) over batch and positions."""
        std, mean = torch.std_mean(x_bchw.float(), dim=(0, 2, 3), keepdim=True, correction=0)
        self.bias.copy_(-mean)
        self.logs.copy_(-torch.log(std + 1e-6))
        self.pending = False

    def scale(self, x_bchw: Tensor) -> Tensor:
        """The affine map alone, without its log-det (for use inside the nets)."""
        if self.pending:
            self.start_from(x_bchw)
        return (x_bchw + self.bias) * torch.exp(self.logs)

    def into(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (O I kh kw) and bias of a convolution without bias followed by this map."""
        factor = torch.exp(self.logs)
        return weight * factor.view(-1, 1, 1, 1), (self.bias * factor).flatten()

    def forward(self, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
        y_bchw = self.scale(x_bchw)
        return y_bchw, self._log_det(x_bchw)

    def inverse(self, z_bchw: Tensor) -> tuple[Tensor, Tensor]:
        return z_bchw * torch.exp(-self.logs) - self.bias, -self._log_det(z_bchw)

    def _log_det(self, x_bchw: Tensor) -> Tensor:
        batch, _, height, width = x_bchw.shape
        return (self.logs.sum() * (height * width)).expand(batch)
