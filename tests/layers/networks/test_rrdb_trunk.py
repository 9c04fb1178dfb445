"""The trunk as one operation: outputs and gradients are those of its blocks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deflow_cli.layers.networks.rrdb import RRDB
from deflow_cli.layers.networks.rrdb_trunk import rrdb_trunk

TAPPED = [1, 3, 3]  # an output may be wanted twice


def trunk() -> nn.ModuleList:
    generator = torch.Generator().manual_seed(0)
    blocks = nn.ModuleList(RRDB(6, 4) for _ in range(4)).double()
    with torch.no_grad():
        for parameter in blocks.parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
    return blocks


def one_by_one(blocks: nn.ModuleList, x: Tensor) -> list[Tensor]:
    outputs = []
    for block in blocks:
        x = block(x)
        outputs.append(x)
    return [outputs[index] for index in TAPPED]


def with_gradients(outputs: list[Tensor], x: Tensor, blocks: nn.ModuleList) -> list[Tensor]:
    total = sum(((k + 1) * torch.sin(output) * output).sum() for k, output in enumerate(outputs))
    return [*outputs, *torch.autograd.grad(total, [x, *blocks.parameters()])]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels"])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_gradients_are_those_of_the_blocks(layout: torch.memory_format, recompute: bool) -> None:
    blocks = trunk().to(memory_format=layout)
    x = torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x.requires_grad_()
    expected = with_gradients(one_by_one(blocks, x), x, blocks)
    found = with_gradients(rrdb_trunk(blocks, x, TAPPED, recompute=recompute), x, blocks)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_an_output_without_a_gradient_is_left_out() -> None:
    blocks = trunk()
    x = torch.randn(1, 6, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first = rrdb_trunk(blocks, x, TAPPED)[0]
    first.square().sum().backward()
    assert blocks[0].rdb1.conv1.weight.grad.abs().sum() > 0
    assert blocks[3].rdb3.conv5.weight.grad.abs().sum() == 0


def test_weight_gradients_of_bfloat16_are_summed_in_float32() -> None:
    blocks = trunk().float()
    x = torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()
    exact = with_gradients(one_by_one(blocks, x), x, blocks)
    together = with_gradients(rrdb_trunk(blocks, x.bfloat16(), TAPPED), x, blocks)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = with_gradients(one_by_one(blocks, x.bfloat16()), x, blocks)
    assert all(gradient.dtype == torch.float32 for gradient in together[3:])
    ours, theirs = (relative_error(found[3:], exact[3:]) for found in (together, autocast))
    assert ours < 1.2 * theirs


def relative_error(found: list[Tensor], exact: list[Tensor]) -> float:
    """The median over tensors."""
    errors = [float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
    return sorted(errors)[len(errors) // 2]
