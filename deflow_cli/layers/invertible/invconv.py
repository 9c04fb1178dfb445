"""Invertible 1x1 convolution in LU form."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.errors import ShapeError
from deflow_cli.layers.invertible.base import Bijection


class InvertibleConv1x1(Bijection):
    """y = W x per position, W = P (L + I) (U + diag(sign_s exp(log_s))); log-det = H W sum(log_s).

    P and sign_s are fixed; L is strictly lower, U strictly upper triangular (Glow, NeurIPS 2018, eq. 10).
    Starts at a random rotation drawn from ``generator``.
    """

    p: Tensor
    sign_s: Tensor

    def __init__(self, channels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.l = nn.Parameter(torch.zeros(channels, channels))
        self.u = nn.Parameter(torch.zeros(channels, channels))
        self.log_s = nn.Parameter(torch.zeros(channels))
        self.register_buffer("p", torch.eye(channels))
        self.register_buffer("sign_s", torch.ones(channels))
        gaussian = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
        self.set_matrix(torch.linalg.qr(gaussian)[0])

    @torch.no_grad()
    def set_matrix(self, weight: Tensor) -> None:
        """Take any invertible C x C matrix, by its LU decomposition with pivoting."""
        if weight.shape != self.l.shape:
            raise ShapeError(f"1x1 matrix is {tuple(weight.shape)}, the layer is {tuple(self.l.shape)}")
        p, lower, upper = torch.linalg.lu(weight.detach().to("cpu", torch.float64))
        diagonal = torch.diagonal(upper)
        self.p.copy_(p)
        self.sign_s.copy_(torch.sign(diagonal))
        self.log_s.copy_(torch.log(torch.abs(diagonal)))
        self.l.copy_(torch.tril(lower, -1))
        self.u.copy_(torch.triu(upper, 1))

    def matrix(self, dtype: torch.dtype | None = None) -> Tensor:
        """W (C x C). The unused halves of l and u may hold anything: they are masked here."""
        dtype = dtype or self.l.dtype
        lower = torch.tril(self.l.to(dtype), -1)
        lower = lower + torch.eye(lower.shape[0], dtype=dtype, device=lower.device)
        diagonal = self.sign_s.to(dtype) * torch.exp(self.log_s.to(dtype))
        upper = torch.triu(self.u.to(dtype), 1) + torch.diag(diagonal)
        return self.p.to(dtype) @ lower @ upper

    def inverse_matrix(self) -> Tensor:
        """W^-1, computed in float64 and cast to the parameters' type."""
        return torch.linalg.inv(self.matrix(torch.float64)).to(self.l.dtype)

    def forward(self, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
        return F.conv2d(x_bchw, self.matrix()[:, :, None, None]), self._log_det(x_bchw)

    def inverse(self, z_bchw: Tensor) -> tuple[Tensor, Tensor]:
        return F.conv2d(z_bchw, self.inverse_matrix()[:, :, None, None]), -self._log_det(z_bchw)

    def _log_det(self, x_bchw: Tensor) -> Tensor:
        batch, _, height, width = x_bchw.shape
        return (self.log_s.sum() * (height * width)).expand(batch)
