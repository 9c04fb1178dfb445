"""On a GPU: a restorer trains in bf16 on live degradations, and restores as the CPU does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deflow_cli.checkpoints.format import save_model
from deflow_cli.checkpoints.restorer import load_restorer
from deflow_cli.data.images.files import Image, read_rgb8, write_image
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.inference.restoring import Restorer
from deflow_cli.models.esrgan.discriminators import build_discriminator
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.presets.reader import SR
from deflow_cli.runtime.cuda_graphs import WARM_UP_CALLS, GraphCache
from deflow_cli.runtime.progress import Silent
from deflow_cli.runtime.seeding import generator as seeded
from deflow_cli.workflows.restore import RestoreRequest, restore
from deflow_cli.workflows.restorer.run import SrRequest, SrResult, SrSource, sr_train
from deflow_cli.workflows.restorer.step import Moment, RestorerStep
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


PSNR_STEPS = GAN_STEPS = WARM_UP_CALLS + 3


def small_step(kind: str, precision: torch.dtype | None, graphed: bool) -> RestorerStep:
    side = 32 if kind == "patch" else 16
    settings = ["restorer.channels=8", "restorer.blocks=1", "restorer.scale=2", f"loss.discriminator={kind}"]
    config = SR.apply_overrides(SR.load("tiny"), [*settings, "sr.clip_gradients=1"])

    def batch_of(step: int) -> tuple[Tensor, Tensor]:
        random = torch.Generator(DEVICE).manual_seed(step)
        gt = torch.rand(4, 3, side, side, generator=random, device=DEVICE)
        return gt, gt[..., ::2, ::2].contiguous()

    def moment_of(step: int, share: float) -> Moment:
        stage = "psnr" if step < PSNR_STEPS else "gan"
        return Moment(stage, step % PSNR_STEPS + 1, 0.0)

    judge = build_discriminator(kind, side, 4, seeded(1)).to(DEVICE)
    model = RRDBNet(config.restorer, seeded(2)).to(DEVICE)
    step = RestorerStep(model, judge, None, config, batch_of, moment_of, precision)
    step._update._failed = not graphed
    return step


@pytest.mark.parametrize("kind", ["vgg", "patch", "unet"])
@pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=str)
def test_replayed_steps_train_as_plain_ones(
    monkeypatch: pytest.MonkeyPatch, kind: str, precision: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    steps = [small_step(kind, precision, graphed) for graphed in (True, False)]
    for index in range(PSNR_STEPS + GAN_STEPS):
        if index == PSNR_STEPS:
            for step in steps:
                assert step._update.is_recorded == (step is steps[0])
                step.forget()
        ours, plain = (step(index, 0.0, 1.0) for step in steps)
        assert bool(ours.finite)
        assert list(ours.figures) == list(plain.figures)
        for name, value in ours.figures.items():
            torch.testing.assert_close(value, plain.figures[name], rtol=5e-2, atol=5e-3)
    assert steps[0]._update.is_recorded
    for ours, plain in zip(steps[0].networks, steps[1].networks, strict=True):
        for key, value in ours.module.state_dict().items():
            torch.testing.assert_close(value, plain.module.state_dict()[key], rtol=2e-2, atol=5e-3)


def test_a_replayed_step_that_is_not_finite_changes_nothing() -> None:
    step = small_step("vgg", None, graphed=True)
    batch_of, bad = step.batch_of, False
    step.batch_of = lambda index: tuple(x * (torch.nan if bad else 1.0) for x in batch_of(index))
    for index in range(PSNR_STEPS, PSNR_STEPS + GAN_STEPS):
        step(index, 0.0, 1.0)
    assert step._update.is_recorded
    before = {k: v.clone() for network in step.networks for k, v in network.tensors().items()}
    bad = True
    assert not bool(step(PSNR_STEPS + GAN_STEPS, 0.0, 1.0).finite)
    after = {k: v for network in step.networks for k, v in network.tensors().items()}
    for key, value in before.items():
        assert torch.equal(value, after[key]), key


@pytest.mark.parametrize("tta", [False, True])
def test_images_of_a_size_are_restored_by_a_graph(tta: bool) -> None:
    model = RRDBNet(SR.load("tiny").restorer, seeded(1)).eval()
    made: list[GraphCache] = []

    def graphs(function: object) -> GraphCache:
        made.append(GraphCache(function))
        return made[-1]

    graphed = Restorer(model, DEVICE, dtype=torch.bfloat16, tta=tta, graphs=graphs)
    plain = Restorer(model, DEVICE, dtype=torch.bfloat16, tta=tta)
    for seed in range(4):
        image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(graphed(image), plain(image), rtol=0, atol=1e-2)
    assert made[0].recorded == 1
    graphed._halved(64, MemoryError())
    assert made[0].recorded == 0
