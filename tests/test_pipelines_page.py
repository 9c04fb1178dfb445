"""The page about pipelines: every command and every block of Python in it runs as it is written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from deflow_cli.checkpoints.format import save_model
from deflow_cli.checkpoints.restorer import save_restorer
from deflow_cli.cli.main import app
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.data.images.files import Image, to_pixels, write_image
from deflow_cli.models.esrgan.generator import RRDBNet
from tests.checkpoints.fake_hub import FakeHub, connect, fake_hub
from tests.inference.small import build, smooth_images
from tests.test_tutorial import DOCS, commands

PAGE = "pipelines.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page starts from; its commands and blocks run one after the other in it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("page")
    save_model(folder / "runs/camera/model.safetensors", build(), {"steps": 3})
    network = RRDBNet(RestorerConfig(scale=4, channels=8, blocks=1), torch.Generator().manual_seed(1))
    save_restorer(folder / "runs/restorer/restorer.safetensors", network, {})
    (folder / "clean").mkdir()
    for index, picture in enumerate(smooth_images(4, 72, 80)):
        write_image(folder / f"clean/{index}.png", Image(to_pixels(picture[None])))
    return folder


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with fake_hub() as served:
        yield served


@pytest.fixture
def here(folder: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    connect(monkeypatch, hub.url, folder / "cache")
    return folder


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / PAGE).read_text(encoding="utf-8"), re.M | re.S)


def deflow(command: str) -> str:
    program, *args = shlex.split(command)
    assert program == "deflow", f"{command!r} is no command of ours"
    result = CliRunner().invoke(app, args, prog_name="deflow")
    assert result.exit_code == 0, f"{command}\n{result.output}"
    return result.stdout


@pytest.mark.parametrize("command", commands(PAGE))
def test_commands(here: Path, command: str) -> None:
    assert deflow(command)


def test_blocks_of_python(here: Path) -> None:
    checks: list[Callable[[dict[str, object]], None]] = [check_onnx, check_transform]
    assert len(checks) == len(blocks())
    for block, check in zip(blocks(), checks, strict=True):
        names: dict[str, object] = {"__name__": "page"}
        exec(compile(block, PAGE, "exec"), names)
        check(names)


def check_onnx(names: dict[str, object]) -> None:
    image, degraded = names["image"], names["degraded"]
    assert image.shape == degraded.shape  # type: ignore[attr-defined]
    assert abs(image - degraded).max() > 0.01  # type: ignore[operator]


def check_transform(names: dict[str, object]) -> None:
    picture = smooth_images(1, 80, 90)[0]
    assert names["transform"](picture).shape == (3, 64, 64)  # type: ignore[operator]


def test_what_the_commands_leave(here: Path) -> None:
    assert (here / "src/process/deflow_degr.py").is_file()
    assert sorted(path.name for path in (here / "hub/someone-camera-noise").iterdir()) == [
        "README.md",
        "model.safetensors",
        "samples.png",
    ]
    assert len(list((here / "pulled").iterdir())) == 4
