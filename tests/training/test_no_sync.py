"""No synchronisation: in a training step, forward and back, the host waits for the device nowhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deflow_cli.config.fit import RunConfig
from deflow_cli.data.images.files import Image, write_image
from deflow_cli.models.esrgan.discriminators import build_discriminator
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.presets.reader import SR
from deflow_cli.runtime.seeding import generator as seeded
from deflow_cli.training.engine import Engine
from deflow_cli.workflows.fit.closed_form import SampleSizes
from deflow_cli.workflows.fit.run import BatchObjective, fit
from deflow_cli.workflows.fit.run import FitRequest as UsualFitRequest
from deflow_cli.workflows.restorer.step import Moment, RestorerStep
from tests.small import small_run
from tests.training.waiting import NoWaiting, WouldWait, without_waiting

FitRequest = partial(UsualFitRequest, samples=SampleSizes(20, 20, 20, 20))
SETTINGS = [
    "flow.shift=mixture:2",
    "fit.iterations=3",
    "fit.channel_statistics=yes",
    "fit.coupling_rate=1.0",
    "fit.report=false",
]


def tiny(*settings: str) -> RunConfig:
    return small_run(*SETTINGS, *settings)


def write_pictures(folder: Path, sigma: float, seed: int = 3, count: int = 6) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for index in range(count):
        coarse = rng.integers(60, 200, (6, 6, 3)).repeat(8, 0).repeat(8, 1)
        noisy = coarse + sigma * rng.standard_normal(coarse.shape)
        write_image(folder / f"{index}.png", Image(noisy.clip(0, 255).astype(np.uint8)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("photos")
    write_pictures(root / "clean", 0.0)
    write_pictures(root / "noisy", 12.0, seed=4)
    return root / "clean", root / "noisy"


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Engines take their steps but the first without waiting; returns what ran in each."""
    seen: list[set[str]] = []
    plain = Engine._step

    def step(engine: Engine, share: float) -> None:
        # what is asked once, such as whether the domains' statistics differ, may be asked in the first
        (without_waiting(plain, seen) if engine.progress.step else plain)(engine, share)

    monkeypatch.setattr(Engine, "_step", step)
    return seen


@pytest.mark.parametrize(
    "settings",
    [
        ["fit.shift_update=gradient"],
        ["fit.memory=low", "fit.shift_update=gradient", "flow.gain=none"],
        ["flow.shift=correlated", "fit.shift_update=gradient", "flow.scale=published", "flow.splits=all"],
        ["flow.shift=diagonal", "flow.gain=none", "fit.clip_gradients=0"],
        ["flow.conditioning=none", "flow.condition_channels=0", "fit.channel_statistics=no"],
        ["fit.precision=bf16"],
    ],
    ids=" ".join,
)
def test_a_step_of_a_fit(
    folders: tuple[Path, Path], tmp_path: Path, watched: list[set[str]], settings: list[str]
) -> None:
    fit(FitRequest(*folders, tmp_path / "run", tiny(*settings), device="cpu"))
    assert len(watched) == 2
    # the watch saw the whole step: forward, backward, clipping, optimiser, averages
    parts = {"aten::convolution", "aten::convolution_backward", "aten::_foreach_norm"}
    assert watched[-1] >= parts | {"aten::_fused_adamw_", "aten::_foreach_lerp_"}
    assert ("aten::linalg_cholesky_ex" in watched[-1]) == ("flow.shift=diagonal" not in settings)


def test_a_step_with_pairs(folders: tuple[Path, Path], tmp_path: Path, watched: list[set[str]]) -> None:
    for name, sigma in (("clean", 0.0), ("noisy", 10.0)):
        write_pictures(tmp_path / "pairs" / name, sigma)
    config = tiny("fit.shift_update=gradient")
    fit(FitRequest(*folders, tmp_path / "run", config, pairs=tmp_path / "pairs", device="cpu"))
    assert len(watched) == 2


def test_the_watch_finds_what_is_planted_in_a_fit(
    folders: tuple[Path, Path], tmp_path: Path, watched: list[set[str]]
) -> None:
    def waiting(objective: BatchObjective) -> BatchObjective:
        def call(*batch: Any) -> tuple[Tensor, Mapping[str, Tensor]]:
            loss, figures = objective(*batch)
            return loss * (1.0 if loss.item() < 1e9 else 0.5), figures

        return call

    with pytest.raises(WouldWait, match="_local_scalar_dense"):
        fit(FitRequest(*folders, tmp_path / "run", tiny(), device="cpu"), wrap_objective=waiting)


class _WaitsInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad * float(grad.sum())


WAITING: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool(x.sum() > 0),
    "branch": lambda x: 1 if x.sum() > 0 else 0,
    "float": lambda x: float(x.detach().sum()),
    "list": lambda x: x.sum().tolist(),
    "to the host": lambda x: x.detach().cpu(),
    "numpy": lambda x: x.detach().numpy(),
    "equal": lambda x: torch.equal(x, x),
    "nonzero": lambda x: x.nonzero(),
    "where of one": lambda x: torch.where(x > 0),
    "mask": lambda x: x[x > 0],
    "write by mask": lambda x: x.detach().clone().index_put_((x > 0,), torch.zeros(())),
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "cholesky": lambda x: torch.linalg.cholesky(x.detach()),
    "checked": lambda x: torch.linalg.cholesky_ex(x.detach(), check_errors=True),
    "inverse": lambda x: torch.linalg.inv(x.detach()),
    "from host": lambda x: x * torch.tensor(2.0),
    "backward": lambda x: _WaitsInBackward.apply(x).sum().backward(),
}


@pytest.mark.parametrize("name", WAITING)
def test_the_watch_finds(name: str) -> None:
    x = torch.eye(3, requires_grad=True)
    with pytest.raises(WouldWait), NoWaiting():
        WAITING[name](x)


@pytest.mark.parametrize("stage", ["psnr", "gan"])
@pytest.mark.parametrize("kind", ["vgg", "patch", "unet"])
def test_a_step_of_a_restorer(stage: str, kind: str) -> None:
    side = 32 if kind == "patch" else 16
    settings = ["restorer.channels=8", "restorer.blocks=1", "restorer.scale=2", f"loss.discriminator={kind}"]
    config = SR.apply_overrides(SR.load("tiny"), [*settings, "sr.clip_gradients=1"])
    images = (torch.rand(2, 3, side, side), torch.rand(2, 3, side // 2, side // 2))
    judge = build_discriminator(kind, side, 4, seeded(1))
    model = RRDBNet(config.restorer, seeded(2))
    step = RestorerStep(
        model, judge, None, config, lambda i: images, lambda i, _: Moment(stage, i + 1, 0.0), None
    )
    seen: list[set[str]] = []
    for index in range(2):
        outcome = without_waiting(step, seen)(index, 0.0, 1.0)
        assert outcome.finite
    assert seen[1] >= {"aten::convolution_backward", "aten::_fused_adam_"}
