"""The fit workflow: reproducible, resumable to the bit after SIGKILL, honest about bad steps."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from deflow_cli.checkpoints.format import load_model
from deflow_cli.config.fit import RunConfig
from deflow_cli.data.blur.shapes import gaussian_kernel
from deflow_cli.data.images.files import Image, write_image
from deflow_cli.errors import CheckpointError, ConfigError, DataError, TrainingError
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.objective import Objective
from deflow_cli.presets.reader import FIT
from deflow_cli.training.engine import LEAST_STEPS, Engine
from deflow_cli.workflows.fit import run as workflow
from deflow_cli.workflows.fit.closed_form import SampleSizes
from deflow_cli.workflows.fit.run import BatchObjective, WrapObjective, fit
from tests.forking import Forked
from tests.small import small_run

SETTINGS = [
    "flow.steps=1",
    "flow.shift=mixture:2",
    "fit.iterations=12",
    "fit.channel_statistics=no",
    "fit.log_every=2",
    "fit.validate_every=6",
    "fit.preview_every=100",
    "fit.checkpoint_every=4",
    "fit.moments_every=5",
    "fit.report=false",
]


def small(*settings: str) -> RunConfig:
    return small_run(*SETTINGS, *settings)


# Closed forms from few patches: these tests are about bookkeeping.
FitRequest = partial(workflow.FitRequest, samples=SampleSizes(start=8, moments=40, final=40, held_out=4))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Smooth pictures, and other smooth pictures with noise."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for name, sigma in (("clean", 0), ("noisy", 12)):
        (root / name).mkdir()
        for index in range(10):
            y, x = np.mgrid[:64, :80] / 20
            waves = [np.sin(x * rng.uniform(0.3, 2) + y * rng.uniform(0.3, 2) + k) for k in range(3)]
            picture = 128 + 60 * np.stack(waves, -1) + sigma * rng.standard_normal((64, 80, 3))
            write_image(root / name / f"{index}.png", Image(picture.clip(0, 255).astype(np.uint8)))
    return root / "clean", root / "noisy"


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    different = [key for key in first if not torch.equal(first[key], second[key])]
    assert not different, different[:3]


@pytest.mark.slow(seconds=7)
@pytest.mark.parametrize("update", ["moments", "gradient"])
def test_two_runs_are_bitwise_equal(folders: tuple[Path, Path], tmp_path: Path, update: str) -> None:
    config = small(f"fit.shift_update={update}")
    for name in ("a", "b"):
        fit(FitRequest(*folders, tmp_path / name, config, device="cpu"))
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    fit(FitRequest(*folders, tmp_path / "c", small("fit.seed=1"), device="cpu"))
    assert not torch.equal(
        weights(tmp_path / "a")["flow.layers.1.actnorm.bias"],
        weights(tmp_path / "c")["flow.layers.1.actnorm.bias"],
    )


KILLED = """
import sys, tomllib
from pathlib import Path
import torch
from deflow_cli.presets.reader import FIT
from deflow_cli.workflows.fit import run as workflow
from deflow_cli.workflows.fit.closed_form import SampleSizes
torch.set_num_threads(1)
clean, noisy, out, config, resume = sys.argv[1:]
config = FIT.parse_toml(Path(config).read_text(), "test")
samples = SampleSizes(start=8, moments=40, final=40, held_out=4)
request = workflow.FitRequest(
    Path(clean), Path(noisy), Path(out), config, device="cpu", resume=resume == "1", samples=samples
)
workflow.fit(request)
"""


def start_process(folders: tuple[Path, Path], out: Path, config: Path, resume: bool) -> Forked:
    return Forked(KILLED, *folders, out, config, int(resume))


def steps_logged(run: Path) -> list[int]:
    try:
        lines = (run / "log.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


@pytest.mark.slow(seconds=30)
def test_sigkill_and_resume_end_with_the_same_weights(folders: tuple[Path, Path], tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(FIT.to_toml(small("fit.iterations=24")))
    assert start_process(folders, tmp_path / "whole", config, False).wait() == 0
    for kills, at in ((1, 6), (2, 14)):
        process = start_process(folders, tmp_path / "killed", config, resume=kills > 1)
        while process.poll() is None and max(steps_logged(tmp_path / "killed"), default=0) < at:
            time.sleep(0.01)
        assert process.poll() is None, "the run ended before it could be killed"
        process.kill()
        assert not (tmp_path / "killed" / "model.safetensors").exists()
    assert start_process(folders, tmp_path / "killed", config, True).wait() == 0
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    rows = steps_logged(tmp_path / "killed")
    assert rows == sorted(rows)
    assert steps_logged(tmp_path / "whole") == rows


def test_ctrl_c_saves_a_usable_model_and_goes_on(folders: tuple[Path, Path], tmp_path: Path) -> None:
    class PressesCtrlC(workflow.Silent):
        def update(self, done: int, **fields: float | int | str) -> None:
            if done == 6:
                os.kill(os.getpid(), signal.SIGINT)

    request = FitRequest(*folders, tmp_path / "run", small(), device="cpu")
    result = fit(request, PressesCtrlC())
    assert result.interrupted
    assert result.step == 6
    load_model(result.model_path)
    again = FitRequest(*folders, tmp_path / "run", small(), device="cpu", resume=True)
    assert not fit(again).interrupted
    fit(FitRequest(*folders, tmp_path / "whole", small(), device="cpu"))
    assert_same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_run_folder_holds_what_is_promised(folders: tuple[Path, Path], tmp_path: Path) -> None:
    result = fit(FitRequest(*folders, tmp_path / "run", small(), device="cpu"))
    names = {path.name for path in result.run_dir.iterdir()}
    assert {"model.safetensors", "config.toml", "log.jsonl", "state.safetensors", "previews"} <= names
    assert list((result.run_dir / "previews").glob("*.png"))
    rows = [json.loads(line) for line in (result.run_dir / "log.jsonl").read_text().splitlines()]
    assert all("step" in row for row in rows)
    held = [row for row in rows if "held_out_clean" in row]
    assert len(held) == 2
    assert (result.run_dir / "previews" / "components.png").exists()
    assert held[0]["shift"]["latent0"]["largest"][0] > 0
    _, facts = load_model(result.model_path)
    assert facts["step"] == 12
    assert facts["clean_images"] == facts["noisy_images"] == 10


def times(factor: Callable[[], float]) -> WrapObjective:
    """Objectives whose loss is multiplied, by a factor asked for anew at each step."""

    def wrap(objective: BatchObjective) -> BatchObjective:
        def call(*batch: Any) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
            loss, figures = objective(*batch)
            return loss * factor(), figures

        return call

    return wrap


def test_bad_steps_are_skipped_then_the_last_state_comes_back(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    poisoned = iter([False] * 5 + [True] + [False] * 2 + [True] * 3)

    warnings: list[str] = []

    class Listens(workflow.Silent):
        def warn(self, text: str) -> None:
            warnings.append(text)

    config = small("fit.max_bad_steps=3", "fit.iterations=16")
    request = FitRequest(*folders, tmp_path / "run", config, device="cpu")
    poison = times(lambda: float("nan") if next(poisoned, False) else 1.0)
    result = fit(request, Listens(), wrap_objective=poison)
    assert result.step == 16
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())
    assert any("back to step 8 at 0.5" in text for text in warnings), warnings
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 16 or rows[-2]["step"] == 16
    assert max(row.get("skipped", 0) for row in rows) == 4


def test_hopeless_divergence_is_an_error(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="diverged"):
        fit(
            FitRequest(*folders, tmp_path / "run", small("fit.max_bad_steps=1"), device="cpu"),
            wrap_objective=times(lambda: float("inf")),
        )


@pytest.mark.parametrize(
    "settings",
    [
        ["flow.shift=correlated", "fit.start=constant", "fit.shift_update=gradient"],
        ["flow.shift=diagonal"],
        ["flow.shift=post-hoc"],
        ["flow.splits=all", "flow.scale=published"],
        ["flow.conditioning=none", "flow.condition_channels=0"],
        ["fit.held_out=0.0", "fit.ema=0.0", "fit.whiten=false"],
        ["fit.channel_statistics=yes"],
    ],
    ids=" ".join,
)
def test_every_mode_fits_and_degrades(
    folders: tuple[Path, Path], tmp_path: Path, settings: list[str]
) -> None:
    result = fit(FitRequest(*folders, tmp_path / "run", small("fit.iterations=4", *settings), device="cpu"))
    model, _ = load_model(result.model_path)
    spread = sum(float(latent.spectrum().sum()) for latent in model.prior.shared())
    assert spread > 0
    assert np.isfinite(result.bits_per_dim_clean)
    assert np.isfinite(result.bits_per_dim_noisy)


def test_pairs_join_the_training(folders: tuple[Path, Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for side in ("clean", "noisy"):
        (tmp_path / "pairs" / side).mkdir(parents=True)
    for index in range(3):
        clean = rng.integers(40, 200, (48, 48, 3)).astype(np.uint8)
        noisy = np.clip(clean + 10 * rng.standard_normal(clean.shape), 0, 255).astype(np.uint8)
        write_image(tmp_path / "pairs" / "clean" / f"{index}.png", Image(clean))
        write_image(tmp_path / "pairs" / "noisy" / f"{index}.png", Image(noisy))
    request = FitRequest(*folders, tmp_path / "run", small(), pairs=tmp_path / "pairs", device="cpu")
    result = fit(request)
    rows = [json.loads(line) for line in (result.run_dir / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["pairs"]) for row in rows if "clean" in row)


def test_patch_that_does_not_fit_the_flow_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="multiple of 4"):
        fit(FitRequest(*folders, tmp_path / "run", small("fit.patch_size=30"), device="cpu"))


def test_resume_without_a_state(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """A run killed before its first state begins anew and says so; a model is never overwritten."""
    notes: list[str] = []

    class Listens(workflow.Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    request = FitRequest(*folders, tmp_path / "run", small("fit.iterations=2"), device="cpu", resume=True)
    assert fit(request, Listens()).step == 2
    assert any("begins at step 0" in note for note in notes), notes
    (tmp_path / "run" / "state.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds a model but no state"):
        fit(request)


def test_budget_that_ends_before_the_first_step_takes_the_least_steps(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    warnings: list[str] = []

    class Listens(workflow.Silent):
        def warn(self, text: str) -> None:
            warnings.append(text)

    config = small("fit.iterations=0", "fit.time_budget=0.01")
    result = fit(FitRequest(*folders, tmp_path / "run", config, device="cpu"), Listens())
    assert result.step == LEAST_STEPS
    assert sum("before the first step: 5 steps are taken" in text for text in warnings) == 1, warnings
    load_model(result.model_path)


def test_encoder_starts_from_a_file(folders: tuple[Path, Path], tmp_path: Path) -> None:
    encoder = DeFlow(small().model, seed=9).encoder
    assert encoder is not None
    tensors = {key: value for key, value in encoder.state_dict().items() if not key.startswith("project.")}
    tensors |= {"conv_last.weight": torch.zeros(3, 8, 3, 3)}
    path = tmp_path / "esrgan.safetensors"
    save_file(tensors, path)
    seen: dict[str, torch.Tensor] = {}

    def look(objective: BatchObjective) -> BatchObjective:
        assert isinstance(objective, Objective)
        assert objective.model.encoder is not None
        seen.update({key: value.clone() for key, value in objective.model.encoder.state_dict().items()})
        return objective

    settings = ["fit.iterations=1", f"fit.encoder_weights={path}"]
    request = FitRequest(*folders, tmp_path / "run", small(*settings), device="cpu")
    fit(request, wrap_objective=look)
    assert torch.equal(tensors["conv_first.weight"], seen["conv_first.weight"])
    del tensors["conv_first.weight"]
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"esrgan\.safetensors: .*conv_first"):
        fit(FitRequest(*folders, tmp_path / "other", small(*settings), device="cpu"))
    assert not (tmp_path / "other").exists()


def test_what_is_refused_leaves_no_run_folder(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with pytest.raises(DataError, match="same folder"):
        fit(FitRequest(folders[0], folders[0], out, small(), device="cpu"))
    (tmp_path / "pairs").mkdir()
    with pytest.raises(DataError, match="neither clean/ and noisy/"):
        fit(FitRequest(*folders, out, small(), pairs=tmp_path / "pairs", device="cpu"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if not installed
    with pytest.raises(ConfigError, match=r"fit\.tensorboard") as caught:
        fit(FitRequest(*folders, out, small("fit.tensorboard=true"), device="cpu"))
    assert "deflow-cli[tensorboard]" in caught.value.next_step
    assert not out.exists()


def test_resuming_another_model_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    fit(FitRequest(*folders, tmp_path / "run", small(), device="cpu"))
    other = small("flow.hidden_channels=12")
    with pytest.raises(Exception, match="does not fit this run"):
        fit(FitRequest(*folders, tmp_path / "run", other, device="cpu", resume=True))


def test_resuming_with_other_images_is_a_choice(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """One image has another content, one is new and one is missing: refused, or told where accepted."""
    clean, noisy = (tmp_path / folder.name for folder in folders)
    for source, copy in zip(folders, (clean, noisy), strict=True):
        shutil.copytree(source, copy)
    run = tmp_path / "run"
    fit(FitRequest(clean, noisy, run, small("fit.iterations=2"), device="cpu"))
    first, second, third = sorted(path.name for path in noisy.iterdir())[:3]
    (noisy / first).rename(noisy / "new.png")
    shutil.copy(noisy / third, noisy / second)
    config = small("fit.iterations=4")
    before = (run / "data.json").read_bytes()
    with pytest.raises(DataError) as caught:
        fit(FitRequest(clean, noisy, run, config, device="cpu", resume=True))
    assert (
        f"not what the run began with: noisy: 1 missing ({first}), 1 new (new.png), "
        f"1 with another content ({second}), of " in str(caught.value)
    )
    assert "--accept-changed-data" in caught.value.next_step
    assert (run / "data.json").read_bytes() == before
    warnings: list[str] = []

    class Listens(workflow.Silent):
        def warn(self, text: str) -> None:
            warnings.append(text)

    request = FitRequest(clean, noisy, run, config, device="cpu", resume=True, accepts_changed_data=True)
    result = fit(request, Listens())
    assert result.step == 4
    assert any("goes on with other data than it began with: noisy: 1 missing" in text for text in warnings)
    _, facts = load_model(result.model_path)
    assert facts["data_before"][0]["noisy_fingerprint"] != facts["noisy_fingerprint"]
    fit(FitRequest(clean, noisy, run, config, device="cpu", resume=True))  # now it is the run's data


def test_engine_state_is_one_file(folders: tuple[Path, Path], tmp_path: Path) -> None:
    fit(FitRequest(*folders, tmp_path / "run", small(), device="cpu"))
    names = load_file(tmp_path / "run" / "state.safetensors").keys()
    kinds = {name.split(".")[0] for name in names}
    assert kinds == {"model", "average", "optimizer"}
    assert Engine.__doc__


def test_clean_images_made_small_by_kernels(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Phone photographs, made small, are their own clean side; a resumed run ends as a whole one."""
    photos, kernels = tmp_path / "photos", tmp_path / "kernels"
    kernels.mkdir()
    for index in range(2):
        np.save(kernels / f"{index}.npy", gaussian_kernel((1.0 + index) * np.eye(2), 13, 1.5))
    large = np.random.default_rng(0)
    for index in range(4):
        picture = large.integers(0, 255, (160, 144, 3), dtype=np.uint8)
        write_image(photos / f"{index}.png", Image(picture))
    (tmp_path / "tiny").mkdir()
    write_image(tmp_path / "tiny" / "0.png", Image(np.zeros((8, 8, 3), np.uint8)))
    config = small("fit.iterations=4", "fit.checkpoint_every=2")
    with pytest.raises(DataError, match="tiny"):
        fit(
            FitRequest(photos, tmp_path / "tiny", tmp_path / "refused", config, device="cpu", kernels=kernels)
        )
    assert not (tmp_path / "refused").exists()

    class Stops(workflow.Silent):
        def update(self, done: int, **fields: float | int | str) -> None:
            if done == 2 and "failed" not in fields:  # of the training, not of the blurring
                os.kill(os.getpid(), signal.SIGINT)

    ask = partial(FitRequest, photos, photos, config=config, device="cpu", kernels=kernels)
    assert fit(ask(tmp_path / "run"), Stops()).interrupted
    result = fit(ask(tmp_path / "run", resume=True))
    fit(ask(tmp_path / "whole"))
    assert_same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    _, facts = load_model(result.model_path)
    assert facts["clean_kernels"]["count"] == 2
    assert facts["clean_kernels"]["scale"] == 4
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert Path(record["clean_pictures"]) == photos
    assert Path(record["clean"]) == tmp_path / "run" / "clean-blurred"
    np.save(kernels / "1.npy", gaussian_kernel(5 * np.eye(2), 13, 1.5))
    with pytest.raises(DataError, match=r"kernels: 1 with another content \(1\.npy\)"):
        fit(ask(tmp_path / "run", resume=True))
    with pytest.raises(DataError, match=r"clean pictures: 4 missing"):
        fit(FitRequest(photos, folders[1], tmp_path / "run", config, device="cpu", resume=True))
