"""Convolutions of enlarged features by phases, and products of weights that are kept."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.layers.folding import FoldCache
from deflow_cli.layers.upsampled import FeatureConv, LevelFeatures

SIZES = [(1, 1), (2, 3), (5, 4)]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def image(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def features(generator: torch.Generator, factor: int, height: int, width: int) -> LevelFeatures:
    own = image(generator, 2, 3, factor * height, factor * width)
    return LevelFeatures(own, image(generator, 2, 4, height, width) if factor > 1 else None)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_phases_are_the_convolution_of_the_enlarged(
    factor: int, height: int, width: int, memory_format: torch.memory_format, generator: torch.Generator
) -> None:
    seen = features(generator, factor, height, width)
    weight, bias = image(generator, 5, 3 + 4 * (factor > 1), 3, 3), image(generator, 1, 5, 1, 1).flatten()
    laid_out = LevelFeatures(*(t if t is None else t.contiguous(memory_format=memory_format) for t in seen))
    y = FeatureConv.of(weight, bias, 3, factor)(laid_out)
    torch.testing.assert_close(y, F.conv2d(seen.joined(), weight, bias, padding=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 4])
def test_phases_have_the_gradients_of_the_enlarged(factor: int, generator: torch.Generator) -> None:
    seen = features(generator, factor, 2, 3)
    assert seen.low is not None
    weight, bias = image(generator, 5, 7, 3, 3), image(generator, 1, 5, 1, 1).flatten()
    inputs = [t.requires_grad_() for t in (seen.own, seen.low, weight, bias)]
    direction = image(generator, 2, 5, 2 * factor, 3 * factor)
    ours = torch.autograd.grad((FeatureConv.of(weight, bias, 3, factor)(seen) * direction).sum(), inputs)
    plain = F.conv2d(seen.joined(), weight, bias, padding=1)
    for mine, theirs in zip(ours, torch.autograd.grad((plain * direction).sum(), inputs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def kept(cache: FoldCache, weight: Tensor) -> Tensor:
    return cache.get("doubled", [weight], lambda: weight * 2)


def test_products_are_kept_while_the_weights_stay() -> None:
    cache, weight = FoldCache().eval(), nn.Parameter(torch.ones(3))
    assert kept(cache, weight).requires_grad, "with gradients the product is part of the graph"
    with torch.no_grad():
        first = kept(cache, weight)
        assert kept(cache, weight) is first
        weight.add_(1)
        assert torch.equal(kept(cache, weight), torch.full((3,), 4.0))


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_training_between_evaluations_is_seen(options: dict[str, bool]) -> None:
    cache, weight = FoldCache(), nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, **options)
    for _ in range(2):
        cache.eval()
        with torch.no_grad():
            assert torch.equal(kept(cache, weight), weight * 2)
        cache.train()
        weight.grad = torch.ones(3)
        optimizer.step()
        with torch.no_grad():
            assert torch.equal(kept(cache, weight), weight * 2)


def test_loaded_and_moved_weights_are_seen() -> None:
    cache, layer = FoldCache().eval(), nn.Linear(2, 2)
    with torch.no_grad():
        kept(cache, layer.weight)
        layer.load_state_dict({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)})
        assert not kept(cache, layer.weight).any()
        layer.double()
        assert kept(cache, layer.weight).dtype == torch.float64


def test_copies_are_empty() -> None:
    cache = FoldCache().eval()
    with torch.no_grad():
        kept(cache, torch.ones(3))
    for copied in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert isinstance(copied, FoldCache)
        assert not copied.training
        assert not copied._kept
    assert cache._kept
