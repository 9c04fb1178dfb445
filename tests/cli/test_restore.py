"""`deflow restore`: what the workflow is asked for, what is refused before it, what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from deflow_cli.checkpoints.restorer import save_restorer
from deflow_cli.cli.restoration.restore import parse_tile_pad
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.data.images.files import Image, read_image, to_pixels, write_image
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.workflows import restore as workflow
from deflow_cli.workflows.restore import RestoreRecord, RestoreReport, RestoreRequest
from tests.inference.small import smooth_images

Deflow = Callable[..., Result]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RestoreRequest]:
    """The requests of a workflow that restores one image and skips one."""
    requests: list[RestoreRequest] = []
    record = RestoreRecord(Path("a.png"), Path("out/a.png"), 40, 20, 0.5)

    def answer(request: RestoreRequest, reporter: Any) -> RestoreReport:
        requests.append(request)
        failed = [(Path("bad.png"), "truncated")] if request.tta else []
        return RestoreReport(Path("m.pth"), "given", 4, 2.5, [record], [Path("b.png")], failed)

    monkeypatch.setattr(workflow, "restore", answer)
    return requests


def test_request_by_default(deflow: Deflow, folders: Any, asked: list[RestoreRequest]) -> None:
    result = deflow("restore", folders[0], "out")
    assert result.exit_code == 0, result.output
    assert asked == [RestoreRequest(folders[0], Path("out"))]
    assert "1 written to out, 1 skipped, x2.5" in result.stdout
    assert "m.pth (given)" in result.stdout


def test_request_with_everything(deflow: Deflow, folders: Any, asked: list[RestoreRequest]) -> None:
    args = ["--model", "x.pth", "-s", "2.5", "--tile", "256", "--tile-pad", "16", "--suffix", "x4"]
    args += ["--ext", ".JPG", "--skip-existing", "--fp32", "--device", "cuda:1"]
    assert deflow("restore", folders[0], "out", *args).exit_code == 0
    assert asked == [
        RestoreRequest(
            folders[0],
            Path("out"),
            model=Path("x.pth"),
            outscale=2.5,
            tile=256,
            tile_pad=16,
            suffix="x4",
            ext="jpg",
            skip_existing=True,
            fp32=True,
            device="cuda:1",
        )
    ]


def test_failures_are_told_and_exit_1(deflow: Deflow, folders: Any, asked: list[RestoreRequest]) -> None:
    result = deflow("restore", folders[0], "out", "--tta", "--json")
    assert result.exit_code == 1
    assert "failed: bad.png: truncated" in result.stderr
    record = json.loads(result.stdout)
    assert record["failed"] == [["bad.png", "truncated"]]
    assert record["records"][0] == {
        "source": "a.png", "target": "out/a.png", "width": 40, "height": 20, "seconds": 0.5
    }  # fmt: skip
    assert (record["model"], record["scale"], record["outscale"]) == ("m.pth", 4, 2.5)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--outscale", "0"], 2, ["--outscale is 0", "above 0"]),
        (["-s", "nan"], 2, ["nan"]),
        (["--tile", "big"], 2, ["'big'", "auto"]),
        (["--tile-pad", "-4"], 2, ["'-4'", "pixels"]),
        (["--suffix", "../x"], 2, ["'../x'"]),
        (["--device", "tpu"], 2, ["'tpu'"]),
    ],
)
def test_wrong_options_name_value_and_expectation(
    deflow: Deflow, folders: Any, asked: list[RestoreRequest], args: list[str], code: int, words: list[str]
) -> None:
    result = deflow("restore", folders[0], "out", *args)
    assert (result.exit_code, asked) == (code, [])
    for word in words:
        assert word in result.stderr


def test_missing_source_is_named(deflow: Deflow, asked: list[RestoreRequest]) -> None:
    result = deflow("restore", "nowhere", "out")
    assert (result.exit_code, asked) == (1, [])
    assert "nowhere: no such file or folder" in result.stderr


def test_values() -> None:
    assert [parse_tile_pad(text) for text in ("auto", "0", "32")] == [None, 0, 32]


def test_from_the_command_line_to_the_file(
    deflow: Deflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deflow_cli.workflows.restore.packaged_folder", lambda: None)
    write_image(tmp_path / "in/a.png", Image(to_pixels(smooth_images(1, 12, 10))))
    (tmp_path / "in/broken.png").write_bytes(b"no picture")
    assert "no restorer is embedded" in deflow("restore", "in", "out").stderr
    config = RestorerConfig(scale=2, channels=4, blocks=1, growth_channels=2)
    model = RRDBNet(config, torch.Generator().manual_seed(0))
    save_restorer(tmp_path / "runs/x/restorer.safetensors", model, {})
    result = deflow("restore", "in", "out", "--suffix", "big", "-s", "3", "--tile", "8", "--tta")
    assert result.exit_code == 1, result.output
    assert "1 written to out, x3" in result.stdout
    assert "runs/x/restorer.safetensors (newest restorer here)" in result.stdout
    assert result.stderr.count("broken.png") == 1
    assert read_image(tmp_path / "out/a_big.png").pixels.shape == (36, 30, 3)
