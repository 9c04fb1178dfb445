"""On a GPU a training step in runs has the values and gradients of the layers one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.objective import Objective, TrainingNoise
from tests.inference.small import build

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(autouse=True)
def _full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def gradients(model: DeFlow, low_memory: bool = False) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    random = torch.Generator().manual_seed(3)
    images = torch.rand(4, 3, 64, 64, generator=random).cuda()
    uniform = torch.rand(images.shape, generator=random).cuda() - 0.5
    side = 64 // model.config.flow.downsample
    normal = torch.randn((4, 3, side, side), generator=random).cuda()
    noise = TrainingNoise(uniform, normal)
    loss, _ = Objective(model, low_memory=low_memory)(images[:2], images[2:], noise)
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **found}


def relative_errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> list[float]:
    assert found.keys() == expected.keys()
    return sorted(
        float((found[name] - value).norm() / (value.norm() + 1e-9)) for name, value in expected.items()
    )


@pytest.mark.parametrize("low_memory", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("flow", [{}, {"levels": 3, "downsample": 8}], ids=["small", "three levels"])
def test_float32(flow: dict[str, object], low_memory: bool) -> None:
    model = build("mixture:2", **flow).cuda().train().to(memory_format=torch.channels_last)
    expected = gradients(model)
    model.train_in_runs()
    errors = relative_errors(gradients(model, low_memory), expected)
    assert errors[-1] < 1e-3
    assert errors[len(errors) // 2] < 1e-5


def test_bfloat16_is_as_near_as_the_layers() -> None:
    model = build("mixture:2").cuda().train().to(memory_format=torch.channels_last)
    exact = gradients(model)
    model.set_net_precision(torch.bfloat16)
    layers = relative_errors(gradients(model), exact)
    model.train_in_runs()
    runs = relative_errors(gradients(model), exact)
    assert runs[len(runs) // 2] < 1.5 * layers[len(layers) // 2] + 1e-3
    assert runs[-1] < 2 * layers[-1] + 1e-2
