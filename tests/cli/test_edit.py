"""`deflow edit`: what the workflow is asked for, what is refused before it, what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from deflow_cli.checkpoints.srflow.files import save_srflow
from deflow_cli.cli.restoration.edit import parse_normalise
from deflow_cli.config.editing import Edit
from deflow_cli.data.images.files import Image, read_image, to_pixels, write_image
from deflow_cli.errors import ConfigError
from deflow_cli.workflows import edit as workflow
from deflow_cli.workflows.edit import EditRecord, EditReport, EditRequest
from tests.inference.small_srflow import images, started_srflow

Deflow = Callable[..., Result]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[EditRequest]:
    """The requests of a workflow that edits one image; a.png, b.png and m.png are there."""
    requests: list[EditRequest] = []
    for name in ("a.png", "b.png", "m.png"):
        (tmp_path / name).touch()

    def answer(request: EditRequest, reporter: Any) -> EditReport:
        requests.append(request)
        record = EditRecord(
            Path("a.png"), [Path("out.png")], 40, 20, 0.5, (40, 24), [50.0, 48.0], 0.01, 1.7, 0.8, 0.25, 9.0
        )
        failed = [(Path("bad.png"), "truncated")] if request.edit.seed == 13 else []
        return EditReport(Path("m.pth"), "given", 4, request.edit.mode, [record], failed, request.sheet)

    monkeypatch.setattr(workflow, "edit", answer)
    return requests


def test_every_mode_by_default(deflow: Deflow, asked: list[EditRequest]) -> None:
    a, b, m, out = (Path(name) for name in ("a.png", "b.png", "m.png", "out.png"))
    calls = {
        ("transfer", a, out, "--with", b, "--mask", m): EditRequest(
            a, out, Edit("transfer", samples=1), other=b, mask=m
        ),
        ("style", a, out, "--with", b): EditRequest(a, out, Edit("style", samples=1), other=b),
        ("restore", a, out): EditRequest(a, out, Edit("restore", samples=1)),
        ("interpolate", a, out): EditRequest(a, out, Edit("interpolate", samples=5)),
        ("vary", a, out): EditRequest(a, out, Edit("vary", samples=1)),
    }
    for args in calls:
        result = deflow("edit", *args)
        assert result.exit_code == 0, result.output
    assert asked == list(calls.values())


def test_a_request_with_everything(deflow: Deflow, asked: list[EditRequest]) -> None:
    args = ["--mask", "m.png", "--model", "x.pth", "--temperature", "0.9", "--normalise", "Spatial, local"]
    args += ["--deterministic", "--strength", "0.5", "--samples", "4", "--seed", "7", "--consistent"]
    args += ["--sheet", "s.png", "--ext", ".PNG", "--device", "cuda:1"]
    result = deflow("edit", "vary", "a.png", "out", *args)
    assert result.exit_code == 0, result.output
    settings = Edit("vary", 0.9, ("spatial", "local"), True, 0.5, 4, 7, True)
    assert asked == [
        EditRequest(
            Path("a.png"),
            Path("out"),
            settings,
            model=Path("x.pth"),
            mask=Path("m.png"),
            sheet=Path("s.png"),
            ext="png",
            device="cuda:1",
        )
    ]
    for words in (
        "vary: 1 written to out",
        "m.pth (given)",
        "a.png: latents of spread 1.70 became 0.80",
        "49.00 dB",
        "outside the mask 0.25 grey levels of change, at most 9",
        "sheet: s.png",
    ):
        assert words in result.stdout
    assert "1 % of the values left the range" in result.stderr


def test_failures_are_told_and_exit_1(deflow: Deflow, asked: list[EditRequest]) -> None:
    result = deflow("edit", "restore", "a.png", "out", "--seed", "13", "--json")
    assert result.exit_code == 1
    assert "failed: bad.png: truncated" in result.stderr
    record = json.loads(result.stdout)
    assert (record["mode"], record["scale"]) == ("restore", 4)
    assert record["records"][0]["mirrored"] == [40, 24]
    assert record["records"][0]["outside_mean"] == 0.25


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["transfer", "a.png", "o.png", "--mask", "m.png"], 2, ["--with"]),
        (["transfer", "a.png", "o.png", "--with", "b.png"], 2, ["--mask"]),
        (["style", "a.png", "o.png", "--with", "none.png"], 1, ["none.png: no such file", "as --with"]),
        (["vary", "none.png", "o.png"], 1, ["none.png: no such file"]),
        (["vary", "a.png", "o.png", "--strength", "2"], 2, ["--strength is 2"]),
        (["restore", "a.png", "o.png", "--normalise", "sideways"], 2, ["sideways", "spatial"]),
        (["restore", "a.png", "o.png", "--normalise", "none", "--deterministic"], 2, ["--deterministic"]),
        (["restore", "a.png", "o.png", "--temperature", "9"], 1, ["temperature 9"]),
        (["interpolate", "a.png", "o", "--samples", "1"], 2, ["--samples is 1"]),
        (["style", "a.png", "o.png", "--with", "b.png", "--temperature", "1"], 2, ["without --normalise"]),
        (["vary", "a.png", "o.png", "--sheet", "s.jpg"], 2, ["a sheet is a PNG"]),
        (["vary", "a.png", "o.png", "--device", "tpu"], 2, ["'tpu'"]),
    ],
)
def test_what_is_refused_before_the_work(
    deflow: Deflow, asked: list[EditRequest], args: list[str], code: int, words: list[str]
) -> None:
    result = deflow("edit", *args)
    assert (result.exit_code, asked) == (code, []), result.output
    for word in words:
        assert word in result.stderr


def test_values() -> None:
    assert parse_normalise(None) is None
    assert parse_normalise("none") == ()
    assert parse_normalise("global") == ("global",)
    with pytest.raises(ConfigError, match="'sideways'"):
        parse_normalise("local,sideways")


def test_from_the_command_line_to_the_files(deflow: Deflow, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", Image(to_pixels(images(1, 24, 30))))
    save_srflow(tmp_path / "runs/x/restorer.safetensors", started_srflow(), {})
    result = deflow("edit", "interpolate", "a.png", "strip", "--samples", "3", "--sheet", "sheet.png")
    assert result.exit_code == 0, result.output
    assert "runs/x/restorer.safetensors (newest restorer here)" in result.stdout
    assert "sides mirrored to 32x24 for the work, and cut again" in result.stderr
    strip = [read_image(tmp_path / "strip" / f"a_s0{index}.png").pixels for index in (1, 2, 3)]
    assert strip[0].shape == (24, 30, 3)
    assert (strip[0] != strip[2]).any()
