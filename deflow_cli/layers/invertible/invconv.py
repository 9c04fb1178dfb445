"""Invertible 1x1 convolutions, parametrised by an LU decomposition or by the matrix itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.errors import ShapeError
from deflow_cli.layers.invertible.base import Bijection, Condition, times_positions


class PointwiseMatrix(Bijection):
    """y = W x at each position, with an invertible C x C matrix W; log-det = H W log|det W|.

    Subclasses hold W in their own parameters. They start at a random rotation.
    """

    def matrix(self, dtype: torch.dtype | None = None) -> Tensor:
        """W (C x C) in a type; None: the parameters' type."""
        raise NotImplementedError

    def log_abs_det(self) -> Tensor:
        """log|det W|, a scalar."""
        raise NotImplementedError

    def set_matrix(self, weight_cc: Tensor) -> None:
        """Take any invertible C x C matrix. Raises ShapeError for another size."""
        raise NotImplementedError

    @classmethod
    def matrices(cls, layers: Sequence[Self]) -> tuple[Tensor, Tensor]:
        """W (K x C x C) and log|det W| (K) of several layers of this class."""
        return (
            torch.stack([layer.matrix() for layer in layers]),
            torch.stack([layer.log_abs_det() for layer in layers]),
        )

    def inverse_matrix(self) -> Tensor:
        """W^-1, computed in float64 and cast to the parameters' type."""
        dtype = next(self.parameters()).dtype
        return torch.linalg.inv(self.matrix(torch.float64)).to(dtype)

    @torch.no_grad()
    def whiten(self, z_bchw: Tensor) -> None:
        """Replace W by W D^-1/2 E^T, where E D E^T is the channels' covariance: W z is then decorrelated."""
        flat = z_bchw.transpose(0, 1).flatten(1).double()
        values, vectors = torch.linalg.eigh(torch.cov(flat))
        floor = 1e-4 * values.max()
        whitening = (vectors / values.clamp_min(floor).sqrt()) @ vectors.T
        self.set_matrix(self.matrix(torch.float64) @ whitening)

    def forward(self, x_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        y_bchw = F.conv2d(x_bchw, self.matrix()[:, :, None, None])
        return y_bchw, times_positions(self.log_abs_det(), x_bchw)

    def inverse(self, z_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        x_bchw = F.conv2d(z_bchw, self.inverse_matrix()[:, :, None, None])
        return x_bchw, -times_positions(self.log_abs_det(), z_bchw)


class InvertibleConv1x1(PointwiseMatrix):
    """W = P (L + I) (U + diag(sign_s exp(log_s))); log|det W| = sum(log_s) (Glow, NeurIPS 2018, eq. 10).

    P and sign_s are fixed; L is strictly lower, U strictly upper triangular. The initial rotation is drawn
    from ``generator``.
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
        self.set_matrix(_random_rotation(channels, generator))

    @torch.no_grad()
    def set_matrix(self, weight_cc: Tensor) -> None:
        """Take any invertible C x C matrix, by its LU decomposition with pivoting."""
        _check_size(weight_cc, self.l)
        p, lower, upper = torch.linalg.lu(weight_cc.detach().to("cpu", torch.float64))
        diagonal = torch.diagonal(upper)
        self.p.copy_(p)
        self.sign_s.copy_(torch.sign(diagonal))
        self.log_s.copy_(torch.log(torch.abs(diagonal)))
        self.l.copy_(torch.tril(lower, -1))
        self.u.copy_(torch.triu(upper, 1))

    def matrix(self, dtype: torch.dtype | None = None) -> Tensor:
        """W (C x C). The unused halves of l and u may hold anything: they are masked here."""
        factors = (self.p, self.l, self.u, self.log_s, self.sign_s)
        return _product(*(factor.to(dtype or self.l.dtype) for factor in factors))

    @classmethod
    def matrices(cls, layers: Sequence[Self]) -> tuple[Tensor, Tensor]:
        factors = zip(
            *((layer.p, layer.l, layer.u, layer.log_s, layer.sign_s) for layer in layers), strict=True
        )
        p, lower, upper, log_s, sign_s = (torch.stack(tensors) for tensors in factors)
        return _product(p, lower, upper, log_s, sign_s), log_s.sum(1)

    def log_abs_det(self) -> Tensor:
        return self.log_s.sum()


class DenseConv1x1(PointwiseMatrix):
    """W itself is the parameter (Glow, NeurIPS 2018, eq. 9), and log|det W| costs O(C^3)."""

    def __init__(self, channels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(_random_rotation(channels, generator).float())

    @torch.no_grad()
    def set_matrix(self, weight_cc: Tensor) -> None:
        _check_size(weight_cc, self.weight)
        self.weight.copy_(weight_cc)

    def matrix(self, dtype: torch.dtype | None = None) -> Tensor:
        return self.weight.to(dtype or self.weight.dtype)

    def log_abs_det(self) -> Tensor:
        return torch.linalg.slogdet(self.weight)[1]


def pointwise_matrix(
    kind: Literal["lu", "dense"], channels: int, generator: torch.Generator | None
) -> PointwiseMatrix:
    """The 1x1 convolution of a variant of the flow."""
    return {"lu": InvertibleConv1x1, "dense": DenseConv1x1}[kind](channels, generator)


def _product(p: Tensor, lower: Tensor, upper: Tensor, log_s: Tensor, sign_s: Tensor) -> Tensor:
    """P (L + I) (U + diag(sign_s exp(log_s))), of matrices or stacks of them."""
    lower = torch.tril(lower, -1)
    lower = lower + torch.eye(lower.shape[-1], dtype=lower.dtype, device=lower.device)
    upper = torch.triu(upper, 1) + torch.diag_embed(sign_s * torch.exp(log_s))
    return p @ lower @ upper


def _random_rotation(channels: int, generator: torch.Generator | None) -> Tensor:
    gaussian = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(gaussian)[0]


def _check_size(weight_cc: Tensor, parameter_cc: Tensor) -> None:
    if weight_cc.shape != parameter_cc.shape:
        raise ShapeError(f"1x1 matrix is {tuple(weight_cc.shape)}, the layer is {tuple(parameter_cc.shape)}")
