"""Training as on a GPU, in runs and compiled: the same values and gradients as layer by layer."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from deflow_cli.layers.invertible import step_runs
from deflow_cli.layers.networks import rrdb_trunk
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.objective import Objective, TrainingNoise, draw_training_noise
from tests.inference.small import build

FLOWS = {
    "two levels": {},
    "projected features": {"condition_channels": 5},
    "three levels, published": {"splits": "published", "levels": 3, "scale": "published"},
    "h of an eighth, all splits": {"downsample": 8, "levels": 3, "splits": "all"},
    "unconditional": {"conditioning": "none"},
}


def gradients(model: DeFlow, *, low_memory: bool = False) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    dtype = next(model.parameters()).dtype
    random = torch.Generator().manual_seed(3)
    images = torch.rand(4, 3, 32, 32, generator=random).to(dtype)
    noise = TrainingNoise(*(n.to(dtype) for n in draw_training_noise(model, images.shape, random)))
    loss, _ = Objective(model, low_memory=low_memory)(images[:2], images[2:], noise)
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **found}


@pytest.mark.parametrize("low_memory", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS.keys())
def test_runs_compute_what_the_layers_do(flow: dict[str, object], low_memory: bool) -> None:
    model = build("mixture:2", **flow).double().train()
    expected = gradients(model)
    model.train_in_runs()
    found = gradients(model, low_memory=low_memory)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-12, msg=name)


def test_networks_in_bfloat16_stay_near_the_layers() -> None:
    """Channels are padded there; both round to eight bits, at other places."""
    model = build("mixture:2").train()
    exact = gradients(model)
    model.set_net_precision(torch.bfloat16)
    layers = gradients(model)
    model.train_in_runs()
    runs = gradients(model)
    for name, value in exact.items():
        error, allowed = (value - runs[name]).norm(), (value - layers[name]).norm()
        assert error <= 2 * allowed + 1e-3 * value.norm(), name


@pytest.mark.slow(seconds=8)
@pytest.mark.parametrize("low_memory", [False, True], ids=["kept", "recomputed"])
def test_compiled_functions_compute_the_same(monkeypatch: pytest.MonkeyPatch, low_memory: bool) -> None:
    """By the tracer alone: what the code generator makes of it needs a compiler."""
    traced = functools.cache(lambda f: torch.compile(f, dynamic=False, backend="aot_eager", fullgraph=True))
    calls = []

    def maybe_compiled(function, compiled):
        if not compiled:
            return function
        calls.append(function.__name__)
        return traced(function)

    model = build("mixture:2").train()
    expected = gradients(model)
    for module in (step_runs, rrdb_trunk):
        monkeypatch.setattr(module, "maybe_compiled", maybe_compiled)
    model.train_in_runs(compiled=True)
    found = gradients(model, low_memory=low_memory)
    step = "encode_step_alone" if low_memory else "encode_step"
    assert {step, "_dense_block", "_dense_block_backward"} <= set(calls)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_without_gradients_nothing_changes() -> None:
    model = build("mixture:2").train()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.encode(images, model.condition_image(images))
        model.train_in_runs()
        found = model.encode(images, model.condition_image(images))
    assert torch.equal(found[1], expected[1])
