"""Tutorials: every command in them runs as it is written, on less data and for fewer steps.

The commands of a page run one after the other in one folder, through the real program. Three rules shorten
them, and nothing else is changed:

- photographs that a command or a fixture lays out are cut to their middles of `SIDE` pixels;
- `fit` and `sr-train` get the options of `SHORT` after their own: a few steps of a small network in place of
  a time budget or a number of iterations;
- `score --realism` gets `--quick`.

What `SKIPPED` names needs a network or files that are not ours, and is not run.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deflow_cli.checkpoints.srflow.files import save_srflow
from deflow_cli.cli.main import app
from deflow_cli.data.images.files import Image, read_rgb8, to_pixels, write_image
from deflow_cli.data.images.listing import list_images
from deflow_cli.workflows.demo import write_demo_data
from deflow_cli.workflows.study.records import read_key
from tests.inference.small_srflow import images as small_images
from tests.inference.small_srflow import started_srflow
from tests.workflows.study.participants import by_strength, write_answers

DOCS = Path(__file__).parents[1] / "docs"
SIDE = 112
FIT = """
    flow.levels=2 flow.steps=1 flow.hidden_channels=8 flow.condition_channels=8 encoder.channels=8
    encoder.growth_channels=4 encoder.blocks=1 encoder.stacked_blocks=[0] fit.iterations=2 fit.time_budget=0
    fit.log_every=1 fit.batch_size=4 fit.patch_size=32 fit.leak_test=false fit.report=false
"""
SR_TRAIN = """
    restorer.channels=8 restorer.growth_channels=8 psnr.iterations=200 psnr.learning_rate=2e-3
    sr.time_budget=0 sr.batch_size=4 sr.validate_pairs=2
"""
SRFLOW = """
    srflow.steps=2 srflow.hidden_channels=8 srflow.condition_channels=8 encoder.channels=8
    encoder.growth_channels=4 encoder.blocks=1 encoder.stacked_blocks=[0] pretrain.iterations=2
    flow.iterations=6 sr.time_budget=0 sr.batch_size=4 sr.gt_size=32 sr.validate_pairs=2 sr.select=bits
"""
SHORT = {"fit": FIT.split(), "sr-train": SR_TRAIN.split(), "sr-train srflow": SRFLOW.split()}
SKIPPED = {
    "deflow weights pull brisque": "downloads",
    "deflow weights pull alexnet --file alexnet-owt-7be5be79.pth": "needs that file",
}


def commands(page: str) -> list[str]:
    """The commands of a page's ```sh blocks: lines joined at a backslash, comments left out."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.sub(r"\s+", " ", re.sub(r"(^|\s)#.*", "", line)).strip() for line in lines]
    return [command for command in found if command]


def cut(folder: Path) -> None:
    """Cut every picture below a folder to its middle."""
    for path in list_images(folder):
        pixels = read_rgb8(path)
        top, left = ((side - SIDE) // 2 for side in pixels.shape[:2])
        write_image(path, Image(np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE])))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Run a line of a page in the test's folder, by the rules above; returns what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def line(command: str) -> str:
        command, _, redirected = command.partition(" > ")
        program, *args = shlex.split(command)
        assert program == "deflow", f"{command!r} is no command of ours"
        kind = f"{args[0]} srflow" if "srflow" in args else args[0]
        args += [word for value in SHORT.get(kind, ()) for word in ("--set", value)]
        args += ["--quick"] if "--realism" in args else []
        result = CliRunner().invoke(app, args, prog_name="deflow")
        assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception!r}"
        if redirected:
            Path(redirected).write_text(result.stdout, encoding="utf-8")
        if args[0] == "demo":
            cut(Path(args[args.index("--out") + 1]))
        return result.stdout

    return line


def runnable(page: str) -> list[str]:
    return [command for command in commands(page) if command not in SKIPPED]


def lay_out(tmp_path: Path, *, photos: int = 4) -> None:
    """clean/, noisy/ and photos/, as the pages call what a user has."""
    data = write_demo_data(tmp_path / "data")
    for name, folder in (("clean", data.clean), ("noisy", data.noisy), ("photos", data.gt)):
        for path in list_images(folder)[photos:]:
            path.unlink()
        cut(folder)
        folder.rename(tmp_path / name)


def names(folder: str) -> list[str]:
    return [path.name for path in list_images(Path(folder))]


def mean_square(folder: str) -> float:
    """Mean squared difference from the clean pictures, grey levels squared."""
    truth = Path("photos/test/gt")
    pairs = [(read_rgb8(Path(folder) / name), read_rgb8(truth / name)) for name in names(folder)]
    return float(np.mean([np.square(a.astype(float) - b).mean() for a, b in pairs]))


@pytest.mark.slow(seconds=46)
def test_restorer_tutorial(run):
    printed = {}
    for command in runnable("tutorial-restorer.md"):
        printed[shlex.split(command)[1]] = run(command)
    assert {"demo", "fit", "make-pairs", "sr-train", "restore", "score"} <= set(printed)
    # What the page says is there afterwards.
    assert Path("runs/camera/model.safetensors").is_file()
    assert names("pairs/gt") == names("pairs/lq")
    assert len(names("pairs/gt")) == 4 * len(names("photos/clean"))
    assert Path("runs/restorer/restorer.safetensors").is_file()
    assert names("restored") == names("photos/test/lq")
    assert mean_square("restored") < mean_square("photos/test/lq")
    for word in ("psnr", "ssim", "niqe", "restored"):
        assert word in printed["score"].lower()


@pytest.mark.slow(seconds=17)
def test_tutorial(run, tmp_path):
    lay_out(tmp_path)
    for command in runnable("tutorial.md"):
        run(command)
    for name in ("model.safetensors", "config.toml", "log.jsonl", "state.safetensors", "previews"):
        assert (Path("runs/mine") / name).exists()
    assert len(names("look")) == 3 * len(names("clean"))
    assert Path("look.html").is_file()
    records = json.loads(Path("degraded.json").read_text(encoding="utf-8"))["records"]
    assert all(0.6 <= record["temperature"] <= 1.2 for record in records)
    assert names("degraded") == names("photos")


def test_scoring_page(run, tmp_path):
    lay_out(tmp_path)
    generator = np.random.default_rng(0)
    for folder in ("restored", "ours", "theirs", "bicubic"):
        Path(folder).mkdir()
        for path in list_images(Path("clean")):
            noise = generator.normal(0, 5, (SIDE, SIDE, 3))
            pixels = np.clip(read_rgb8(path) + noise, 0, 255).astype(np.uint8)
            write_image(Path(folder) / path.name, Image(pixels))
    for command in runnable("scoring.md"):
        if not is_of_samples(command):
            run(command)
    assert Path("table.html").is_file()
    assert Path("realism.html").is_file()
    assert len(names("synthetic")) == 4 * len(names("clean"))


def is_of_samples(command: str) -> bool:
    """Whether a command of the page makes or scores samples of a restorer."""
    return "lq/" in command


def test_scoring_page_of_samples(run, tmp_path):
    save_srflow(Path("srflow.safetensors"), started_srflow(), {})
    for number, small in enumerate(small_images(2, 16, 16)):
        large = small[None].repeat_interleave(4, -1).repeat_interleave(4, -2)
        for folder, image in (("lq", small[None]), ("gt", large)):
            write_image(Path(folder) / f"{number}.png", Image(to_pixels(image)))
    printed = {command: run(command) for command in filter(is_of_samples, runnable("scoring.md"))}
    assert len(names("samples")) == 10 * len(names("lq"))
    assert Path("space.html").is_file()
    assert [path.name for path in sorted(Path("maps").iterdir())] == [
        f"{number}_best_temperature.png" for number in range(2)
    ]
    assert all("LR-PSNR" in text for command, text in printed.items() if "--space" in command)


def test_skipped_commands_are_on_the_pages():
    written = commands("tutorial-restorer.md") + commands("tutorial.md") + commands("scoring.md")
    assert set(SKIPPED) <= set(written)
    assert not set(SKIPPED) & set(commands("tutorial-restorer.md"))


@pytest.mark.slow(seconds=15)
def test_srflow_tutorial(run, tmp_path):
    lay_out(tmp_path)
    printed = {}
    for command in runnable("tutorial-srflow.md"):
        printed[shlex.split(command)[1]] = run(command)
    assert Path("runs/space/restorer.safetensors").is_file()
    assert len(names("large")) == 4 * len(names("noisy"))
    sizes = {
        folder: {read_rgb8(Path(folder) / name).shape[:2] for name in names(folder)} for folder in ("large",)
    }
    assert sizes["large"] == {(2 * SIDE, 2 * SIDE)}
    assert Path("temperatures.png").is_file()
    assert Path("space.html").is_file()
    assert "LR-PSNR" in printed["score"]


def test_study_page(run, tmp_path):
    names_of_methods = ("ours", "theirs", "bicubic")
    rng = np.random.default_rng(0)
    for number in range(2):
        truth = rng.integers(60, 190, (160, 160, 3))
        pictures = {
            name: truth + rng.normal(0, 9 * k, truth.shape) for k, name in enumerate(names_of_methods, 1)
        }
        for folder, pixels in {"gt": truth, "lq": truth[::4, ::4], **pictures}.items():
            write_image(tmp_path / folder / f"{number}.png", Image(np.clip(pixels, 0, 255).astype(np.uint8)))
    make, score = (
        [line for line in runnable("study.md") if line.startswith(f"deflow study {word}")]
        for word in ("make", "score")
    )
    for command in make:
        run(command)
    strengths = dict(zip(names_of_methods, (1.0, 0.0, -1.0), strict=True))
    for person in range(3):
        answers = Path("answers") / f"{person}.json"
        write_answers(answers, read_key(Path("study/key.json")), str(person), by_strength(strengths, rng))
    run(next(line for line in runnable("study.md") if line.startswith("deflow score")))
    for command in score:
        run(command)
    assert [method["name"] for method in json.loads(Path("study.json").read_text())["methods"]] == [
        "ours",
        "theirs",
        "bicubic",
    ]
    assert "bicubic" in Path("study.html").read_text()


@pytest.mark.slow(seconds=10)
def test_the_commands_of_blur_kernels_run(tmp_path: Path, run: Callable[[str], str]) -> None:
    """Pictures are whole here: at a quarter of their size they still hold a patch."""
    data = write_demo_data(tmp_path / "data")
    for name, folder in (("clean", data.clean), ("noisy", data.noisy)):
        for path in list_images(folder)[4:]:
            path.unlink()
        folder.rename(tmp_path / name)
    for command in commands("kernels.md"):
        run(command)
    assert len(list(Path("kernels").glob("*.npy"))) == len(names("noisy")) == 4
    assert names("runs/noisy/clean-blurred") == names("noisy")
