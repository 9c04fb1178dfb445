"""Convolutions of enlarged features by phases, and products of weights that are kept."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.layers.invertible.folding import FoldCache
from deflow_cli.layers.networks.upsampled import FeatureConv, LevelFeatures

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


def test_phases_have_second_gradients(generator: torch.Generator) -> None:
    seen = features(generator, 4, 1, 2)
    assert seen.low is not None
    inputs = [t.requires_grad_() for t in (seen.own, seen.low, image(generator, 2, 7, 3, 3))]

    def penalty(convolved: Tensor) -> list[Tensor]:
        slopes = torch.autograd.grad(convolved.tanh().sum(), inputs, create_graph=True)
        return list(torch.autograd.grad(torch.stack([g.square().sum() for g in slopes]).sum(), inputs))

    bias = torch.zeros(2, dtype=torch.float64)
    ours = penalty(FeatureConv.of(inputs[2], bias, 3, 4)(seen))
    for mine, theirs in zip(ours, penalty(F.conv2d(seen.joined(), inputs[2], padding=1)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_phases_take_functional_gradients(generator: torch.Generator) -> None:
    seen = features(generator, 2, 2, 3)
    weight, bias = image(generator, 5, 7, 3, 3), image(generator, 5, 1, 1, 1).flatten()
    conv = FeatureConv.of(weight, bias, 3, 2)
    assert seen.low is not None
    slope = torch.func.grad(lambda low: conv(LevelFeatures(seen.own, low)).square().sum())(seen.low)
    low = seen.low.requires_grad_()
    joined = F.conv2d(LevelFeatures(seen.own, low).joined(), weight, bias, padding=1)
    torch.testing.assert_close(slope, torch.autograd.grad(joined.square().sum(), low)[0])


def test_features_of_their_own_keep_their_part_of_the_weight_alone() -> None:
    own = FeatureConv.of(torch.ones(5, 3 + 64, 3, 3), torch.zeros(5), 3, 2).own
    assert own.untyped_storage().nbytes() == own.numel() * own.element_size()


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


def test_training_in_evaluation_mode_is_seen() -> None:
    cache, weight = FoldCache().eval(), nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    for _ in range(2):
        with torch.no_grad():
            assert torch.equal(kept(cache, weight), weight * 2)
        kept(cache, weight).sum().backward()
        optimizer.step()


def test_kept_products_have_the_weights_precision() -> None:
    cache, weight = FoldCache().eval(), nn.Parameter(torch.full((2, 2), 1 / 3))
    with torch.no_grad():
        expected = weight @ weight
        with torch.autocast("cpu", torch.bfloat16):
            cache.get("square", [weight], lambda: weight @ weight)
        assert torch.equal(cache.get("square", [weight], lambda: weight @ weight), expected)


def test_nothing_is_kept_over_a_move_or_load() -> None:
    net = nn.ModuleDict({"linear": nn.Linear(2, 2), "cache": FoldCache()}).eval()
    cache, linear = net["cache"], net["linear"]
    assert isinstance(cache, FoldCache)
    assert isinstance(linear, nn.Linear)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for change in (lambda: net.bfloat16().float(), lambda: net.load_state_dict(state, assign=True)):
        with torch.no_grad():
            kept(cache, linear.weight)
        assert cache._cached
        change()
        assert not cache._cached


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
        assert not copied._cached
    assert cache._cached
