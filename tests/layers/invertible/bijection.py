"""Bijection proof: round trip, opposite log-dets, and both against the autograd Jacobian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deflow_cli.layers.invertible.base import Condition
from deflow_cli.layers.invertible.flow import ConditionalFlow
from deflow_cli.layers.invertible.invconv import DenseConv1x1, InvertibleConv1x1
from tests.golden.tolerances import tolerance

Map = Callable[[Tensor], tuple[Tensor, Tensor]]


def assert_bijection(layer: Any, x: Tensor, *condition: Any, name: str = "bijection") -> None:
    """``layer.forward`` and ``layer.inverse`` undo each other and tell the log|det| of their Jacobians.

    x: float64, a batch; ``condition`` is passed to both methods; ``name`` is the row of the tolerance table.
    The whole Jacobian of the batch is taken, so a sample that sees another one fails as well.
    """
    assert x.dtype == torch.float64
    tight, dims = tolerance(name), x[0].numel()

    def forward(value: Tensor) -> tuple[Tensor, Tensor]:
        return layer.forward(value, *condition)

    def inverse(value: Tensor) -> tuple[Tensor, Tensor]:
        return layer.inverse(value, *condition)

    with torch.no_grad():
        z, log_det = forward(x)
        back, log_det_back = inverse(z)
        again, _ = forward(back)
    assert z[0].numel() == dims, "a bijection keeps the number of dimensions"
    assert log_det.shape == log_det_back.shape == x.shape[:1]
    torch.testing.assert_close(back, x, rtol=0, atol=tight * max(1.0, float(x.abs().max())))
    torch.testing.assert_close(again, z, rtol=0, atol=tight * max(1.0, float(z.abs().max())))
    torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=tight * dims)
    torch.testing.assert_close(log_det, _slogdet(forward, x), rtol=0, atol=tight * dims)
    torch.testing.assert_close(log_det_back, _slogdet(inverse, z), rtol=0, atol=tight * dims)


def _slogdet(function: Map, x: Tensor) -> Tensor:
    """log|det| of the Jacobian per sample."""
    batch = x.shape[0]
    jacobian = torch.autograd.functional.jacobian(lambda value: function(value)[0].flatten(1), x)
    blocks = jacobian.reshape(batch, -1, batch, x[0].numel())
    for i in range(batch):
        for j in range(batch):
            assert i == j or not blocks[i, :, j].any(), f"sample {i} depends on sample {j}"
    return torch.stack([torch.linalg.slogdet(blocks[i, :, i])[1] for i in range(batch)])


class FlowAsBijection:
    """A whole flow, its latents flattened into one vector per sample."""

    def __init__(self, flow: ConditionalFlow, size: tuple[int, int]) -> None:
        self.flow = flow
        self.shapes = flow.latent_shapes(*size)

    def forward(self, x_bchw: Tensor, conditions: Sequence[Condition | None]) -> tuple[Tensor, Tensor]:
        latents, log_det = self.flow.encode(x_bchw, conditions)
        assert [z.shape[1:] for z in latents] == [torch.Size(shape) for shape in self.shapes]
        return torch.cat([z.flatten(1) for z in latents], dim=1), log_det

    def inverse(self, z_bd: Tensor, conditions: Sequence[Condition | None]) -> tuple[Tensor, Tensor]:
        sizes = [torch.Size(shape).numel() for shape in self.shapes]
        parts = z_bd.split(sizes, dim=1)
        latents = [part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return self.flow.decode(latents, conditions)


@torch.no_grad()
def randomise(module: nn.Module, generator: torch.Generator, std: float = 0.2) -> nn.Module:
    """Float64, every parameter random and none zero; returns the module.

    The 1x1 convolutions get another permutation, mixed signs, and junk in the halves that are masked.
    """
    module.double()
    for parameter in module.parameters():
        fan_in = parameter[0].numel() if parameter.ndim == 4 and parameter.shape[0] > 1 else 1
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.copy_(values * (1.0 / fan_in**0.5 if fan_in > 1 else std))
    for layer in module.modules():
        if isinstance(layer, InvertibleConv1x1):
            channels = layer.log_s.shape[0]
            order = torch.randperm(channels, generator=generator)
            layer.p.copy_(torch.eye(channels)[order])
            layer.l.mul_(channels**-0.5)  # random triangles are exponentially ill-conditioned otherwise
            layer.u.mul_(channels**-0.5)
            layer.sign_s.copy_(torch.randint(2, (channels,), generator=generator) * 2 - 1)
        if isinstance(layer, DenseConv1x1):  # well-conditioned, of either sign
            channels = layer.weight.shape[0]
            signs = torch.randint(2, (channels, 1), generator=generator) * 2 - 1
            order = torch.randperm(channels, generator=generator)
            layer.weight.mul_(channels**-0.5).add_(signs * torch.eye(channels)[order])
    return module
