"""Enlarging: what is enlarged consistently shrinks to x again."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from deflow_cli.layers.networks.resize import bicubic_downsample
from deflow_cli.models.srflow.enlarging import back_projected, bicubic_upsample, enlarged

X = F.avg_pool2d(torch.rand(1, 3, 26, 22, generator=torch.Generator().manual_seed(1)).double(), 3, 1)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_consistent_enlargement_shrinks_to_x(factor: int) -> None:
    bicubic, consistent = enlarged(X, factor, "bicubic"), enlarged(X, factor, "consistent")
    assert bicubic is not None
    assert consistent is not None
    assert bicubic.shape == consistent.shape == (1, 3, 24 * factor, 20 * factor)
    before = (bicubic_downsample(bicubic, factor) - X).square().mean().sqrt()
    after = (bicubic_downsample(consistent, factor) - X).square().mean().sqrt()
    assert after < before / 10
    assert enlarged(X, factor, "none") is None


def test_each_round_comes_nearer() -> None:
    y = bicubic_upsample(X, 4) + 0.05 * torch.rand(1, 3, 96, 80, generator=torch.Generator().manual_seed(2))
    errors = [
        (bicubic_downsample(back_projected(y, X, 4, rounds), 4) - X).square().mean() for rounds in range(4)
    ]
    assert errors == sorted(errors, reverse=True)
