"""CUDA graphs: replayed steps train as plain ones, and a run that goes back records its step anew."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.objective import Objective, TrainingNoise, draw_training_noise
from deflow_cli.presets.reader import FIT
from deflow_cli.runtime.cuda_graphs import WARM_UP_CALLS, GraphCache, GraphedFunction
from deflow_cli.workflows.fit.step import LossStep
from tests.inference.small import build

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
STEPS = WARM_UP_CALLS + 5


def step_of(model: DeFlow) -> LossStep:
    objective = Objective(model)
    fit = dataclasses.replace(FIT.load("tiny").fit, learning_rate=1e-3, coupling_rate=1.0)

    def inputs_of(step: int) -> tuple[Tensor, ...]:
        random = torch.Generator("cuda").manual_seed(step)
        images = torch.rand(4, 3, 32, 32, generator=random, device="cuda")
        return (images, *draw_training_noise(model, images.shape, random))

    def loss_of(images: Tensor, uniform: Tensor, normal: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return objective(images[0::2], images[1::2], TrainingNoise(uniform, normal))

    return LossStep(model, fit, inputs_of, loss_of, before_recording=lambda: model.statistics.active)


def trained(monkeypatch: pytest.MonkeyPatch, graphed: bool) -> tuple[dict[str, Tensor], list[float]]:
    model = build("mixture:2").to("cuda")
    model.train()
    step = step_of(model)
    if not graphed:
        step._update._failed = True
    losses = [float(step(i, i / STEPS, 1.0).figures["clean"]) for i in range(STEPS)]
    assert step._update.is_recorded == graphed
    return model.state_dict(), losses


def test_replayed_steps_train_as_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    (ours, losses), (plain, plain_losses) = (trained(monkeypatch, graphed) for graphed in (True, False))
    assert losses == pytest.approx(plain_losses, rel=1e-3)
    for key, value in ours.items():
        torch.testing.assert_close(value, plain[key], rtol=2e-3, atol=2e-3)


def test_a_restored_optimiser_is_the_recorded_one(tmp_path: Path) -> None:
    model = build("mixture:2").to("cuda")
    model.train()
    step = step_of(model)
    for i in range(STEPS):
        step(i, 0.0, 1.0)
    saved = {key: value.clone() for key, value in step.network.tensors().items()}
    after = float(step(STEPS, 0.0, 1.0).figures["clean"])
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    step(STEPS + 1, 0.0, 1.0)
    step.network.load(saved)
    assert step._update.is_recorded
    assert float(step(STEPS, 0.0, 1.0).figures["clean"]) == pytest.approx(after, rel=1e-4)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[key], rtol=1e-3, atol=1e-4)


def test_other_shapes_are_computed_plainly() -> None:
    double = GraphedFunction(lambda x: [2 * x])
    for size in (3, 3, 3, 3, 3, 5):
        x = torch.rand(size, device="cuda")
        assert torch.equal(double(x)[0], 2 * x)
    assert double.is_recorded


def test_a_function_that_waits_is_not_recorded(caplog: pytest.LogCaptureFixture) -> None:
    waiting = GraphedFunction(lambda x: [x * float(x.sum())])
    x = torch.rand(3, device="cuda")
    for _ in range(WARM_UP_CALLS + 2):
        torch.testing.assert_close(waiting(x)[0], x * x.sum())
    assert not waiting.is_recorded
    assert len(caplog.records) == 1
    assert torch.randn(3, device="cuda").isfinite().all()  # the default generator still draws


def test_a_cache_replays_a_graph_for_each_shape_that_came_before() -> None:
    cache = GraphCache(lambda x: [2 * x, x.relu() + 1], size=2)
    for turn in range(3):
        for size in (3, 5):
            x = torch.randn(size, device="cuda")
            first, second = cache(x)
            assert torch.equal(first, 2 * x)
            assert torch.equal(second, x.relu() + 1)
        assert cache.recorded == (2 if turn else 0)
    x = torch.randn(7, device="cuda")
    for _ in range(3):  # takes the place of one of them, and the memory that it used
        assert torch.equal(cache(x)[0], 2 * x)
    assert cache.recorded == 2
    cache.clear()
    assert cache.recorded == 0
    for _ in range(3):
        assert torch.equal(cache(x)[0], 2 * x)
    assert cache.recorded == 1


def test_a_cache_gives_its_memory_back_when_none_is_left() -> None:
    fails = False

    def function(x: Tensor) -> list[Tensor]:
        if fails and cache.recorded:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * x]

    cache = GraphCache(function)
    x = torch.randn(3, device="cuda")
    for _ in range(2):
        cache(x)
    assert cache.recorded == 1
    fails = True
    y = torch.randn(4, device="cuda")
    assert torch.equal(cache(y)[0], 2 * y)
    assert cache.recorded == 0
