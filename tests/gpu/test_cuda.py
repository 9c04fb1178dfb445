"""On a GPU: the same numbers as on the CPU, bf16 nets near them, and a fit from start to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deflow_cli.checkpoints.format import load_model
from deflow_cli.data.images.files import Image, write_image
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.presets.reader import FIT
from deflow_cli.training.engine import Engine
from deflow_cli.workflows.fit.run import FitRequest, fit
from deflow_cli.workflows.fit.step import BatchLoss
from tests.inference.small import small_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def latents_on(model: DeFlow, image: torch.Tensor, device: str) -> list[torch.Tensor]:
    model, image = model.to(device), image.to(device)
    with torch.inference_mode():
        conditions = model.prepare(model.condition_image(image))
        return [z.cpu() for z in model.encode_conditioned(image, conditions)[0]]


def test_latents_agree_with_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model = small_model()
    image = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(latents_on(model, image, "cpu"), latents_on(model, image, "cuda"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_bf16_nets_stay_near_float32() -> None:
    model = small_model()
    image = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    exact = latents_on(model, image, "cuda")
    model.set_net_precision(torch.bfloat16)
    for ours, theirs in zip(latents_on(model, image, "cuda"), exact, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 2e-2


def write_folders(root: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    for name, sigma in (("clean", 0), ("noisy", 12)):
        (root / name).mkdir()
        for index in range(8):
            picture = 128 + 40 * rng.standard_normal((1, 1, 3)) + sigma * rng.standard_normal((64, 64, 3))
            pixels = np.clip(picture + np.zeros((64, 64, 3)), 0, 255).astype(np.uint8)
            write_image(root / name / f"{index}.png", Image(pixels))
    return root / "clean", root / "noisy"


def test_fit_runs_on_the_gpu(tmp_path: Path) -> None:
    folders = write_folders(tmp_path)
    settings = ["fit.iterations=10", "fit.patch_size=32", "fit.leak_test=false"]
    config = FIT.apply_overrides(FIT.load("tiny"), settings)
    result = fit(FitRequest(*folders, tmp_path / "run", config, device="cuda"))
    model, facts = load_model(result.model_path)
    assert facts["device"].startswith("cuda")
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("memory", ["normal", "low"])
def test_a_training_step_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    """CUDA itself raises where the host would wait for it; batches come from pinned memory."""
    plain, on_device, pinned, steps = Engine._step, BatchLoss._on_device, [], []

    def step(engine: Engine, share: float) -> None:
        steps.append(engine.progress.step)
        torch.cuda.set_sync_debug_mode("error" if len(steps) > 2 else "default")
        try:
            plain(engine, share)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def watched(loss: BatchLoss, images: torch.Tensor) -> torch.Tensor:
        pinned.append(images.is_pinned())
        return on_device(loss, images)

    monkeypatch.setattr(Engine, "_step", step)
    monkeypatch.setattr(BatchLoss, "_on_device", watched)
    settings = ["fit.iterations=8", "fit.patch_size=32", "fit.leak_test=false", f"fit.memory={memory}"]
    settings += ["fit.shift_update=gradient", "fit.channel_statistics=yes"]
    config = FIT.apply_overrides(FIT.load("tiny"), settings)
    fit(FitRequest(*write_folders(tmp_path), tmp_path / "run", config, device="cuda"))
    assert len(steps) == 8
    assert all(pinned)
