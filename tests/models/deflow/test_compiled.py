"""Compiled steps: traced as a whole, and the same values and gradients as without."""

from __future__ import annotations

import pytest
import torch

from deflow_cli.layers.invertible.coupling import FlowStep
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.objective import Objective, draw_training_noise
from tests.inference.small import build


def gradients(model: DeFlow) -> list[torch.Tensor]:
    model.zero_grad(set_to_none=True)
    random = torch.Generator().manual_seed(3)
    images = torch.rand(4, 3, 32, 32, generator=random)
    loss, _ = Objective(model)(images[:2], images[2:], draw_training_noise(model, images.shape, random))
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def test_compiled_steps_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the tracer alone: what the code generator makes of it needs a compiler."""
    compile_it = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **_: compile_it(f, backend="eager", fullgraph=True))
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda module, **_: setattr(
            module, "_compiled_call_impl", compile_it(module._call_impl, backend="eager", fullgraph=True)
        ),
    )
    model = build("mixture:2").train()
    plain = gradients(model)
    model.compile_for_training()
    assert any(layer._compiled_call_impl for layer in model.modules() if isinstance(layer, FlowStep))
    for ours, theirs in zip(gradients(model), plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
