"""Invertible 1x1 convolutions: in LU form, and with a dense matrix."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.errors import ShapeError
from deflow_cli.layers.invertible.base import Bijection, StepCondition


class Pointwise(Bijection):
    """y = W x at each position, for an invertible matrix W (C x C); log-det = H W log |det W|."""

    def matrix(self, dtype: torch.dtype | None = None) -> Tensor:
        """W (C x C), in the parameters' type or another."""
        raise NotImplementedError

    def inverse_matrix(self) -> Tensor:
        """W^-1, computed in float64 and cast to the parameters' type."""
        raise NotImplementedError

    def log_abs_det(self) -> Tensor:
        """log |det W|, a scalar."""
        raise NotImplementedError

    def set_matrix(self, weight: Tensor) -> None:
        """Take any invertible C x C matrix. Raises ShapeError for another size."""
        raise NotImplementedError

    def forward(self, x_bchw: Tensor, condition: StepCondition | None = None) -> tuple[Tensor, Tensor]:
        return F.conv2d(x_bchw, self.matrix()[:, :, None, None]), self._log_det(x_bchw)

    def inverse(self, z_bchw: Tensor, condition: StepCondition | None = None) -> tuple[Tensor, Tensor]:
        return F.conv2d(z_bchw, self.inverse_matrix()[:, :, None, None]), -self._log_det(z_bchw)

    def _log_det(self, x_bchw: Tensor) -> Tensor:
        batch, _, height, width = x_bchw.shape
        return (self.log_abs_det() * (height * width)).expand(batch)


class DenseConv1x1(Pointwise):
    """A 1x1 convolution whose parameter is W itself, as SRFlow's (Lugmayr et al., ECCV 2020).

    Starts at a random rotation drawn from ``generator``.
    """

    def __init__(self, channels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_rotation(channels, generator).float())

    @torch.no_grad()
    def set_matrix(self, weight: Tensor) -> None:
        _check_size(weight, self.weight)
        self.weight.copy_(weight)

    def matrix(self, dtype: torch.dtype | None = None) -> Tensor:
        return self.weight if dtype is None else self.weight.to(dtype)

    def inverse_matrix(self) -> Tensor:
        return torch.linalg.inv(self.weight.double()).to(self.weight.dtype)

    def log_abs_det(self) -> Tensor:
        return torch.linalg.slogdet(self.weight)[1]


class InvertibleConv1x1(Pointwise):
    """A 1x1 convolution with W = P (L + I) (U + diag(sign_s exp(log_s))); log |det W| = sum(log_s).

    P and sign_s are fixed; L is strictly lower, U strictly upper triangular (Glow, NeurIPS 2018, eq. 10).
    Starts at a random rotation drawn from ``generator``.

    >>> layer = InvertibleConv1x1(4)
    >>> x = torch.rand(1, 4, 2, 2)
    >>> torch.allclose(layer.inverse(layer(x)[0])[0], x, atol=1e-5)
    True
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
        self.set_matrix(random_rotation(channels, generator))

    @torch.no_grad()
    def set_matrix(self, weight: Tensor) -> None:
        _check_size(weight, self.l)
        p, lower, upper = torch.linalg.lu(weight.detach().to("cpu", torch.float64))
        diagonal = torch.diagonal(upper)
        self.p.copy_(p)
        self.sign_s.copy_(torch.sign(diagonal))
        self.log_s.copy_(torch.log(torch.abs(diagonal)))
        self.l.copy_(torch.tril(lower, -1))
        self.u.copy_(torch.triu(upper, 1))

    def matrix(self, dtype: torch.dtype | None = None) -> Tensor:
        # the unused halves of l and u may hold anything: they are masked here
        dtype = dtype or self.l.dtype
        lower = torch.tril(self.l.to(dtype), -1)
        lower = lower + torch.eye(lower.shape[0], dtype=dtype, device=lower.device)
        diagonal = self.sign_s.to(dtype) * torch.exp(self.log_s.to(dtype))
        upper = torch.triu(self.u.to(dtype), 1) + torch.diag(diagonal)
        return self.p.to(dtype) @ lower @ upper

    def inverse_matrix(self) -> Tensor:
        return torch.linalg.inv(self.matrix(torch.float64)).to(self.l.dtype)

    def log_abs_det(self) -> Tensor:
        return self.log_s.sum()


def random_rotation(channels: int, generator: torch.Generator | None) -> Tensor:
    """Q of the QR decomposition of a Gaussian matrix: C x C, float64."""
    gaussian = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(gaussian)[0]


def _check_size(weight: Tensor, own: Tensor) -> None:
    if weight.shape != own.shape:
        raise ShapeError(f"1x1 matrix is {tuple(weight.shape)}, the layer is {tuple(own.shape)}")
