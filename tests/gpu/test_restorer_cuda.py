"""On a GPU: a restorer trains in bf16 on live degradations, and restores as the CPU does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deflow_cli.checkpoints.format import save_model
from deflow_cli.checkpoints.restorer import load_restorer
from deflow_cli.data.images.files import Image, read_rgb8, write_image
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.presets.reader import SR
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.restore import RestoreRequest, restore
from deflow_cli.workflows.restorer.run import SrRequest, SrResult, SrSource, sr_train
from tests.inference.small import small_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
DEVICE = "cuda"
SETTINGS = [
    "psnr.iterations=8",
    "gan.iterations=4",
    "sr.time_budget=0",
    "sr.stage=both",
    "sr.select=psnr",
    "sr.validate_every=4",
    "loss.features=none",
    "restorer.channels=16",
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index in range(6):
        coarse = rng.integers(40, 216, (12, 12, 3), dtype=np.uint8)
        write_image(folder / f"{index}.png", Image(coarse.repeat(8, 0).repeat(8, 1)))
    return folder


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> SrResult:
    root = tmp_path_factory.mktemp("run")
    save_model(root / "model.safetensors", small_model(), {})
    degrader = DegraderChoice(model=root / "model.safetensors")
    source = SrSource(hr=photos, scale=1, degrader=degrader)
    config = SR.apply_overrides(SR.load("tiny"), SETTINGS)
    return sr_train(SrRequest(source, root / "run", config, device=DEVICE))


def test_both_stages_train_on_live_degradations(trained: SrResult) -> None:
    model, facts = load_restorer(trained.model_path)
    assert (trained.step, trained.interrupted) == (12, False)
    assert facts["device"].startswith(DEVICE)
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_the_gpu_restores_as_the_cpu_does(photos: Path, tmp_path: Path, trained: SrResult) -> None:
    results = {}
    for name, device, fp32, tile in (
        ("cpu", "cpu", False, None),
        ("fp32", DEVICE, True, None),
        ("bf16", DEVICE, False, None),
        ("tiles", DEVICE, True, 32),
    ):
        request = RestoreRequest(
            photos, tmp_path / name, trained.model_path, tile=tile, fp32=fp32, device=device
        )
        assert not restore(request, Silent()).failed
        results[name] = read_rgb8(tmp_path / name / "0.png").astype(int)
    for name, levels in (("fp32", 1), ("tiles", 1), ("bf16", 8)):
        assert np.abs(results[name] - results["cpu"]).max() <= levels, name
