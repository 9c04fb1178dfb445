"""A fit on several ranks: the same training as on one, whoever is killed, on however many it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from deflow_cli.data.images.files import Image, write_image
from deflow_cli.presets.reader import FIT
from deflow_cli.workflows.fit.closed_form import SampleSizes
from deflow_cli.workflows.fit.run import FitRequest, fit
from tests.rank_processes import ends, environment, start_ranks
from tests.small import small_run

SAMPLES = SampleSizes(start=8, moments=40, final=40, held_out=4)
SETTINGS = [
    "flow.steps=1",
    "flow.shift=mixture:2",
    "flow.grain=none",
    "fit.iterations=20",
    "fit.learning_rate=1e-4",
    "fit.coupling_rate=1",
    "fit.channel_statistics=no",
    "fit.log_every=1",
    "fit.validate_every=10",
    "fit.preview_every=100",
    "fit.checkpoint_every=4",
    "fit.moments_every=12",
    "fit.report=false",
]
RUN = """
import sys, time
from pathlib import Path
import torch
from deflow_cli.presets.reader import FIT
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.fit.closed_form import SampleSizes
from deflow_cli.workflows.fit.run import FitRequest, fit
torch.set_num_threads(1)
photos, out, pause, resume = sys.argv[1:]

class Prints(Silent):
    def note(self, text):
        sys.stdout.write(f"{text}\\n")
        sys.stdout.flush()

def slowed(objective):
    def slow(*arguments):
        time.sleep(float(pause))
        return objective(*arguments)
    return slow

config = FIT.parse_toml(Path(f"{photos}/config.toml").read_text(), "test")
samples = SampleSizes(start=8, moments=40, final=40, held_out=4)
request = FitRequest(
    Path(photos, "clean"), Path(photos, "noisy"), Path(out), config, device="cpu", resume=resume == "resume",
    samples=samples
)
result = fit(request, Prints(), wrap_objective=slowed)
state = "interrupted" if result.interrupted else "done"
sys.stdout.write(f"{state} {result.step}\\n")  # one write: two ranks share a pipe
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth pictures, others with noise, and the configuration."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for name, sigma in (("clean", 0), ("noisy", 12)):
        (root / name).mkdir()
        for index in range(8):
            y, x = np.mgrid[:48, :64] / 20
            waves = [np.sin(x * rng.uniform(0.3, 2) + y * rng.uniform(0.3, 2) + k) for k in range(3)]
            picture = 128 + 60 * np.stack(waves, -1) + sigma * rng.standard_normal((48, 64, 3))
            write_image(root / name / f"{index}.png", Image(picture.clip(0, 255).astype(np.uint8)))
    (root / "config.toml").write_text(FIT.to_toml(small_run(*SETTINGS)))
    return root


def on_one(photos: Path, out: Path, resume: bool = False) -> Path:
    config = small_run(*SETTINGS)
    places = (photos / "clean", photos / "noisy", out)
    fit(FitRequest(*places, config, device="cpu", resume=resume, samples=SAMPLES))
    return out


@pytest.fixture(scope="module")
def alone(photos: Path) -> Path:
    """A run of one process."""
    return on_one(photos, photos / "alone")


def rows(run: Path) -> list[dict[str, float]]:
    try:
        lines = (run / "log.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("}")]


def assert_same_training(run: Path, alone: Path) -> None:
    """The losses of every step within a millionth of themselves, the final weights within 1e-5."""
    ours, theirs = rows(run), rows(alone)
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for our, their in zip(ours, theirs, strict=True):
        for name in ("clean", "noisy", "held_out_clean", "held_out_noisy"):
            if name in their:
                assert our[name] == pytest.approx(their[name], rel=1e-6, abs=1e-6), (our["step"], name)
    first, second = (_weights(folder) for folder in (run, alone))
    assert first.keys() == second.keys()
    worst = max((float((first[key] - second[key]).abs().max()), key) for key in first)
    assert worst[0] < 1e-5, worst


def _weights(run: Path) -> dict[str, torch.Tensor]:
    """M by M M^T: a root of a covariance magnifies rounding where that is small."""
    weights = load_file(run / "model.safetensors")
    return {
        key: value @ value.mT if key.endswith(".root") else value.float() for key, value in weights.items()
    }


@pytest.mark.slow(seconds=37)
def test_two_ranks_train_as_one_does(photos: Path, alone: Path) -> None:
    out = photos / "two"
    (photos / "run.py").write_text(RUN)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    arguments = [photos / "run.py", photos, out, "0", "begin"]
    result = subprocess.run([*command, *arguments], env=environment(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert_same_training(out, alone)
    lines = result.stdout.splitlines()
    assert lines.count("ranks: 2 processes, each 2 of a batch") == 1  # the main rank alone reports
    assert lines.count("done 20") == 2  # all have its result
    assert {path.name for path in out.iterdir()} == {path.name for path in alone.iterdir()}


@pytest.mark.slow(seconds=25)
def test_a_killed_rank_ends_the_run_which_goes_on_with_two_and_with_one(photos: Path, alone: Path) -> None:
    out = photos / "killed"
    processes = start_ranks(2, RUN, photos, out, 0.2, "begin")
    while not rows(out) or rows(out)[-1]["step"] < 6:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)
    os.kill(processes[1].pid, signal.SIGKILL)
    before = time.monotonic()
    (code, output), _ = ends(processes)
    assert time.monotonic() - before < 20
    assert code != 0
    assert "rank 0 of 2 ends: the connection to another one was lost" in output

    again = start_ranks(2, RUN, photos, out, 0.2, "resume")
    while rows(out)[-1]["step"] < 10:
        assert all(process.poll() is None for process in again)
        time.sleep(0.02)
    os.kill(again[1].pid, signal.SIGTERM)  # one rank is told to stop, and all do
    (code, output), (other, beside) = ends(again)
    assert (code, other) == (0, 0), output
    assert "resumed at step 4" in output
    assert "stopping after this step; the state is saved" in output
    step = rows(out)[-1]["step"]
    assert output.splitlines()[-1] == beside.splitlines()[-1] == f"interrupted {step:.0f}"

    assert_same_training(on_one(photos, out, resume=True), alone)


def test_a_batch_that_cannot_be_divided_is_told_once(photos: Path, tmp_path: Path) -> None:
    script = "from deflow_cli.__main__ import main; main()"
    settings = ["--set", "fit.batch_size=6", "--set", "fit.leak_test=false", "--set", "fit.patch_size=32"]
    places = [photos / "clean", photos / "noisy", "--out", tmp_path / "run", "--device", "cpu"]
    (code, output), (other, beside) = ends(start_ranks(2, script, "fit", *places, *settings))
    assert (code, other) == (2, 2)
    assert "error: fit.batch_size is 6, and each of 2 processes needs an even number" in output
    assert "next: pass --set fit.batch_size=8" in output
    assert beside == ""
    assert not (tmp_path / "run").exists()
