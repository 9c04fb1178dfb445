"""CUDA graphs where there is no CUDA: plain calls, and which graphs a cache keeps (GPU tests replay them)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from deflow_cli.runtime import cuda_graphs
from deflow_cli.runtime.cuda_graphs import GraphCache, GraphedFunction


class FakeGraph:
    """Says what a graph would do: records at its first call, replays afterwards."""

    said: list[str]
    pools: list[object]

    def __init__(self, function: Callable[..., list[Tensor]], *, pool: Callable[[], object], **_: object):
        self.function, self.pool = function, pool
        self.is_recorded = False
        self.recorded_pool: object = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if not self.is_recorded:
            self.recorded_pool = self.pool() or object()
            self.pools.append(self.recorded_pool)
        self.said.append("replay" if self.is_recorded else "record")
        self.is_recorded = True
        return tuple(self.function(*inputs))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    FakeGraph.said, FakeGraph.pools = [], []
    monkeypatch.setattr(cuda_graphs, "are_on_cuda", bool)
    monkeypatch.setattr(cuda_graphs, "GraphedFunction", FakeGraph)
    return FakeGraph.said


def called(cache: GraphCache, said: list[str], *sizes: int) -> list[str]:
    """What became of calls with inputs of some sizes."""
    found = []
    for size in sizes:
        before = len(said)
        x = torch.arange(float(size))
        assert torch.equal(cache(x)[0], 2 * x)
        found.append(said[-1] if len(said) > before else "plain")
    return found


def test_without_cuda_every_call_is_plain() -> None:
    x = torch.arange(3.0)
    graphed, cache = GraphedFunction(lambda x: [2 * x]), GraphCache(lambda x: [2 * x])
    for _ in range(5):
        assert torch.equal(graphed(x)[0], 2 * x)
        assert torch.equal(cache(x)[0], 2 * x)
    assert not graphed.is_recorded
    assert cache.recorded == 0


def test_what_comes_again_is_recorded(said: list[str]) -> None:
    cache = GraphCache(lambda x: [2 * x], size=2)
    assert called(cache, said, 3, 4, 3, 3, 4) == ["plain", "plain", "record", "replay", "record"]
    assert cache.recorded == 2
    assert FakeGraph.pools[0] is FakeGraph.pools[1]


def test_what_was_not_called_for_longest_gives_way(said: list[str]) -> None:
    cache = GraphCache(lambda x: [2 * x], size=2)
    called(cache, said, 3, 3, 4, 4, 3)
    assert called(cache, said, 5, 3, 4) == ["plain", "replay", "plain"]
    assert cache.recorded == 1


def test_graphs_are_dropped_when_memory_runs_out(said: list[str]) -> None:
    free = 1

    def function(x: Tensor) -> list[Tensor]:
        if len(x) > 3 and cache.recorded >= free:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * x]

    cache = GraphCache(function)
    called(cache, said, 3, 3)
    assert called(cache, said, 4) == ["plain"]
    assert cache.recorded == 0
    assert called(cache, said, 3, 3) == ["plain", "record"]
    free = 0
    with pytest.raises(torch.OutOfMemoryError):
        cache(torch.zeros(4))
