"""`deflow report`: what it asks the workflow for, and what it prints."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.conftest import Recorder, install_workflow


@pytest.fixture
def report_workflow(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A report that is written at once."""

    @dataclass
    class Result:
        report_path: Path = Path("run/report.html")
        model_path: Path = Path("run/model.safetensors")
        verdict: list[tuple[str, str]] = field(
            default_factory=lambda: [("warn", "Too weak."), ("good", "The fit finished.")]
        )
        notes: list[str] = field(default_factory=list)
        figures: list[dict[str, Any]] = field(default_factory=lambda: [{"value": float("nan")}])

    recorder = Recorder(Result())
    install_workflow(monkeypatch, "report.run", report=recorder)
    install_workflow(monkeypatch, "report.request", ReportRequest=SimpleNamespace)
    return recorder


@pytest.fixture
def run(deflow: Any) -> Path:
    folder = Path("run")
    folder.mkdir()
    (folder / "model.safetensors").touch()
    return folder


def test_request_has_every_option(deflow, run, folders, report_workflow):
    args = ("--out", "page.html", "--images", 5, "--device", "cpu", "--seed", 3)
    result = deflow("report", run, "--clean", folders[0], "--noisy", folders[1], *args)
    assert result.exit_code == 0, result.output
    request = report_workflow.requests[0]
    assert (request.source, request.out) == (run, Path("page.html"))
    assert (request.clean, request.noisy) == folders
    assert (request.images, request.device, request.seed) == (5, "cpu", 3)


def test_verdict_and_page_are_on_stdout(deflow, run, report_workflow):
    lines = deflow("report", run).stdout.splitlines()
    assert lines == [" ! Too weak.", " + The fit finished.", "report: run/report.html"]


def test_json(deflow, run, report_workflow):
    record = json.loads(deflow("report", run, "--json").stdout)
    assert record["report_path"] == "run/report.html"
    assert record["verdict"][0] == ["warn", "Too weak."]
    assert record["figures"] == [{"value": None}]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["none"], "none: no such model"),
        (["run", "--clean", "nowhere"], "--clean"),
        (["run", "--device", "tpu"], "tpu"),
        (["run", "--images", "0"], "Usage"),
    ],
)
def test_what_is_refused_never_reaches_the_workflow(deflow, run, report_workflow, args, words):
    result = deflow("report", *args)
    assert result.exit_code != 0
    assert words in result.stderr
    assert report_workflow.requests == []
