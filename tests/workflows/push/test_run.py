"""Push: there and back, the same bytes and the same images, and nothing of the machine on the way."""

from __future__ import annotations

import getpass
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image as PillowImage
from typer.testing import CliRunner, Result

from deflow_cli.checkpoints.format import save_model
from deflow_cli.checkpoints.restorer import save_restorer
from deflow_cli.checkpoints.srflow.files import save_srflow
from deflow_cli.checkpoints.translation.files import save_translator
from deflow_cli.cli.main import app
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.config.translation import CycleGeneratorConfig, ResidualGeneratorConfig
from deflow_cli.data.images.files import Image, to_pixels, write_image
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.models.translation.generators import CycleGenerator, ResidualGenerator
from deflow_cli.presets.methods import fit_method
from deflow_cli.presets.reader import FIT
from deflow_cli.training.run_folder import write_run_record
from deflow_cli.workflows.report.request import ReportRequest
from deflow_cli.workflows.report.run import report
from tests.checkpoints.fake_hub import FakeHub, connect, fake_hub
from tests.inference.small import small_model, smooth_images
from tests.inference.small_srflow import started_srflow
from tests.small import small_run

SECRET = "holiday-in-rome"  # of folders and pictures

Deflow = Callable[..., Result]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as served:
        connect(monkeypatch, served.url, tmp_path / "cache")
        yield served


@pytest.fixture
def deflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deflow:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args], prog_name="deflow")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run as a fit leaves it, with the folders of its images."""
    folder = tmp_path / "runs/film"
    for name, seed in (("clean", 1), ("noisy", 2)):
        place = tmp_path / SECRET / name
        place.mkdir(parents=True)
        for index, picture in enumerate(smooth_images(4, 96, 96, seed=seed)):
            write_image(place / f"{SECRET}-{index}.png", Image(to_pixels(picture[None])))
    config = small_run(f"fit.encoder_weights={tmp_path}/{SECRET}/esrgan.pth")
    facts = {"components": [[f"{SECRET}-0.png"], []], "config": FIT.to_toml(config), "step": 3}
    facts |= {"clean_images": 4, "noisy_images": 4, "held_out_images": [1, 1], "place": str(tmp_path)}
    save_model(folder / "model.safetensors", small_model(), facts, title="film")
    (folder / "config.toml").write_text(FIT.to_toml(config))
    write_run_record(folder, {side: tmp_path / SECRET / side for side in ("clean", "noisy")})
    return folder


def test_there_and_back(deflow: Deflow, hub: FakeHub, run: Path, tmp_path: Path) -> None:
    options = ["--license", "CC-BY-4.0", "--name", "Film noise", "--author", "Ann", "--no-realism", "--json"]
    pushed = deflow("push", run, "ann/film", *options)
    assert pushed.exit_code == 0, pushed.output
    told = json.loads(pushed.stdout)
    files = hub.files("ann/film")
    assert sorted(files) == told["files"] == ["README.md", "model.safetensors", "samples.png"]
    assert hashlib.sha256(files["model.safetensors"]).hexdigest() == told["sha256"]
    assert hub.files("ann/film", told["commit"]) == files

    source = tmp_path / SECRET / "clean"
    for target, model in (("there", run), ("back", "hf://ann/film")):
        done = deflow("degrade", source, target, "--model", model, "--seed", 4, "--device", "cpu")
        assert done.exit_code == 0, done.output
    for path in (tmp_path / "there").iterdir():
        assert path.read_bytes() == (tmp_path / "back" / path.name).read_bytes()
    [pulled] = (tmp_path / "cache").glob("models--ann--film/snapshots/*/model.safetensors")
    assert hashlib.sha256(pulled.read_bytes()).hexdigest() == told["sha256"]

    received = b"\n".join(hub.received)
    for word in (
        SECRET,
        str(tmp_path),
        "/home/",
        "/tmp/",
        *([getpass.getuser()] if len(getpass.getuser()) > 4 else []),
    ):
        assert word.encode() not in received, word


def test_the_card(deflow: Deflow, run: Path, tmp_path: Path) -> None:
    asked = deflow("push", run, "ann/film", "--license", "CC-BY-4.0", "--dry-run", "--quick")
    assert asked.exit_code == 0, asked.output
    assert "nothing was sent" in asked.stdout
    folder = tmp_path / "hub/ann-film"
    text = (folder / "README.md").read_text("utf-8")
    facts = yaml.safe_load(text.split("---\n")[1])
    assert facts["license"] == "cc-by-4.0"
    assert facts["library_name"] == "deflow-cli"
    assert "deflow" in facts["tags"]
    assert "--model hf://ann/film" in text
    assert "| Clean images | 4 images, 1 held out" in text
    assert 'shift = "mixture:4"' in text or "shift =" in text
    assert "## How real its samples are" in text
    assert "against 4 real noisy ones" in text
    assert "| figure | synthetic |" in text
    assert SECRET not in text
    with PillowImage.open(folder / "samples.png") as sheet:
        assert sheet.width > 4 * 128


NETWORKS = {
    "dsgan": ResidualGenerator(ResidualGeneratorConfig(4, 1), torch.Generator().manual_seed(1)),
    "dasr": ResidualGenerator(ResidualGeneratorConfig(4, 1, 2), torch.Generator().manual_seed(2)),
    "cyclegan": CycleGenerator(CycleGeneratorConfig(4, 1), torch.Generator().manual_seed(3)),
}


@pytest.mark.parametrize("method", NETWORKS)
def test_baselines(deflow: Deflow, hub: FakeHub, run: Path, tmp_path: Path, method: str) -> None:
    presets = fit_method(method).presets
    config = presets.apply_overrides(presets.load("tiny"), [f"{method}.scale=2", f"{method}.patch_size=32"])
    facts = {"step": config.fit.iterations, "seconds": 9.5, "config": presets.to_toml(config)}
    facts |= {"clean_images": 4, "noisy_images": 4, "held_out_images": [1, 1], "skipped_steps": 0}
    facts |= {"place": f"{tmp_path}/{SECRET}", "held_out": {"low_pass_psnr": 31.25}, "device": "cpu"}
    save_translator(run / "model.safetensors", NETWORKS[method], method, facts)
    (run / "config.toml").write_text(presets.to_toml(config))
    pushed = deflow("push", run, "ann/film", "--license", "MIT", "--quick", "--json")
    assert pushed.exit_code == 0, pushed.output
    told = json.loads(pushed.stdout)
    assert (told["kind"], told["method"]) == ("degradation", method)
    files = hub.files("ann/film")
    assert sorted(files) == ["README.md", "model.safetensors", "samples.png"]
    card = files["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["tags"][:2] == ["deflow", method]
    assert f"| Method | {method} |" in card
    assert "low_pass_psnr 31.25" in card
    assert f"[{method}]" in card  # of the configuration
    assert "against 4 real noisy ones" in card or "How real the noise is was not measured" in card
    assert ("deflow degrade" in card) == (method != "dasr")
    assert ("its results are 2 times smaller." in card) == (method == "dasr")
    assert ("means over the whole picture" in card) == (method == "cyclegan")
    assert SECRET not in card
    for word in (SECRET, str(tmp_path)):
        assert word.encode() not in b"\n".join(hub.received), word
    with PillowImage.open(io.BytesIO(files["samples.png"])) as sheet:
        assert sheet.width > 3 * 128

    source = tmp_path / SECRET / "clean"
    for target, model in (("there", run), ("back", "hf://ann/film")):
        done = deflow("make-pairs", source, target, "--model", model, "--scale", 2, "--device", "cpu")
        assert done.exit_code == 0, done.output
    for path in (tmp_path / "there/lq").iterdir():
        assert path.read_bytes() == (tmp_path / "back/lq" / path.name).read_bytes()
    page = report(ReportRequest(Path("hf://ann/film"), clean=source, images=2, device="cpu", seconds=0.0))
    assert page.report_path == Path("ann-film.report.html")


def test_restorers(deflow: Deflow, hub: FakeHub, tmp_path: Path) -> None:
    facts = {"step": 9, "scores": {"psnr": 31.5}, "license": "MIT", "title": "Night"}
    network = RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1))
    save_restorer(tmp_path / "runs/r/restorer.safetensors", network, facts)
    save_srflow(tmp_path / "runs/s/restorer.safetensors", started_srflow(), facts)
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in/a.png", Image(to_pixels(smooth_images(1, 20, 24))))
    for name, kind in (("r", "ESRGAN"), ("s", "SRFlow")):
        pushed = deflow("push", f"runs/{name}", f"ann/{name}")
        assert pushed.exit_code == 0, pushed.output
        card = hub.files(f"ann/{name}")["README.md"].decode()
        assert f"| Architecture | {kind}, x" in card
        assert "psnr 31.5" in card
        for target, model in (("there", f"runs/{name}"), ("back", f"hf://ann/{name}")):
            done = deflow("restore", "in", f"{target}-{name}", "--model", model, "--device", "cpu")
            assert done.exit_code == 0, done.output
        there, back = (tmp_path / f"{place}-{name}/a.png" for place in ("there", "back"))
        assert there.read_bytes() == back.read_bytes()


def test_every_command_takes_the_name(deflow: Deflow, hub: FakeHub, run: Path, tmp_path: Path) -> None:
    assert deflow("push", run, "ann/film", "--license", "MIT", "--no-realism").exit_code == 0
    name, source = "hf://ann/film", tmp_path / SECRET / "clean"
    for command in (
        ["inspect", name],
        ["export", "m.onnx", "--model", name],
        ["make-pairs", source, "pairs", "--model", name, "--scale", 2, "--device", "cpu"],
    ):
        done = deflow(*command)
        assert done.exit_code == 0, f"{command}: {done.output}"
    manifest = (tmp_path / "pairs/deflow.json").read_text("utf-8")
    assert hashlib.sha256(hub.files("ann/film")["model.safetensors"]).hexdigest() in manifest
    page = report(ReportRequest(Path(name), clean=source, images=2, device="cpu", seconds=0.5))
    assert page.report_path == Path("ann-film.report.html")
    assert page.report_path.is_file()
    absent = deflow("sr-train", "pairs", "--init", "hf://ann/absent", "--out", "runs/x", "--device", "cpu")
    assert absent.exit_code == 1
    assert "hf://ann/absent" in absent.stderr


def test_what_is_refused(deflow: Deflow, hub: FakeHub, run: Path) -> None:
    without = deflow("push", run, "ann/film")
    assert without.exit_code == 2
    assert "needs a licence" in without.stderr
    assert deflow("push", run, "film", "--license", "MIT", "--no-realism").exit_code == 2
    nothing = deflow("push", "runs/none", "ann/film", "--license", "MIT")
    assert nothing.exit_code == 1
    assert hub.repos == {}
    absent = deflow("degrade", Path(SECRET), "out", "--model", "hf://ann/absent")
    assert absent.exit_code == 1
    assert "hf://ann/absent" in absent.stderr
