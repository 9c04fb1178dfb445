"""`deflow reproduce` on the command line: its request, its rehearsal, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from deflow_cli.cli.experiments import reproduce as command
from deflow_cli.errors import DataError
from deflow_cli.workflows.reproduce.experiments import EXPERIMENTS
from deflow_cli.workflows.reproduce.steps.base import STAGES

from .conftest import Deflow, Recorder, install_workflow


@pytest.fixture
def workflow(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """An experiment that is done at once."""
    recorder = Recorder(
        SimpleNamespace(
            files=(Path("out/table.md"),),
            missing_data=(),
            missing_weights=(),
            failed=(),
            text="| DeFlow | 22.25 |",
        )
    )
    install_workflow(
        monkeypatch,
        "reproduce.run",
        reproduce=recorder,
        ReproduceRequest=SimpleNamespace,
        stage_named=lambda name: name,
        report_text=lambda report: report.text,
    )
    return recorder


def test_names_are_those_of_the_workflow() -> None:
    assert tuple(EXPERIMENTS) == command.EXPERIMENT_NAMES
    assert command.STAGE_NAMES == STAGES


def test_options_become_a_request(deflow: Deflow, workflow: Recorder, tmp_path: Path) -> None:
    (tmp_path / "aim").mkdir()
    options = ["--only", "none", "--only", "deflow", "--budget", "2h", "--seeds", "3", "--stage", "pairs"]
    result = deflow("reproduce", "aim", "aim", *options, "--set", "fit.iterations=9", "--scale-down")
    assert result.exit_code == 0
    assert "| DeFlow | 22.25 |" in result.stdout
    assert "written: out/table.md" in result.stderr
    [request] = workflow.requests
    assert request.out == Path("runs/reproduce-aim")
    assert (request.only, request.budget, request.seeds) == (("none", "deflow"), 7200.0, 3)
    assert (request.stage, request.settings, request.scale_down) == ("pairs", ("fit.iterations=9",), True)


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["set5", "aim"], "'set5' is no experiment", 2),
        (["aim", "aim", "--stage", "end"], "--stage is 'end'", 2),
        (["aim", "nowhere"], "nowhere: no such folder", 1),
        (["aim", "aim", "--budget", "soon"], "is no duration", 2),
        (["aim", "aim", "--device", "tpu"], "--device is 'tpu'", 2),
    ],
)
def test_mistakes_are_told_before_any_work(
    deflow: Deflow, workflow: Recorder, tmp_path: Path, arguments: list[str], message: str, code: int
) -> None:
    (tmp_path / "aim").mkdir()
    result = deflow("reproduce", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert workflow.requests == []


def test_errors_of_the_work_keep_their_next_step(deflow: Deflow, workflow: Recorder, tmp_path: Path) -> None:
    workflow.error = DataError("aim: no clean training images", next_step="unpack them")
    (tmp_path / "aim").mkdir()
    result = deflow("reproduce", "aim", "aim")
    assert result.exit_code == 1
    assert "next: unpack them" in result.stderr


def test_a_failed_method_ends_with_code_1_and_its_next_step(
    deflow: Deflow, workflow: Recorder, tmp_path: Path
) -> None:
    failed = SimpleNamespace(name="pairs/noise-patches/seed0", reason="no flat tiles", next_step="lower it")
    workflow.answer.failed = (failed,)
    (tmp_path / "aim").mkdir()
    result = deflow("reproduce", "aim", "aim")
    assert result.exit_code == 1
    assert "error: pairs/noise-patches/seed0: no flat tiles\n  next: lower it" in result.stderr
    assert "| DeFlow | 22.25 |" in result.stdout


def lay_out(folder: Path) -> None:
    for name in ("train-noisy-images", "train-clean-images", "valid-input-noisy", "valid-gt-clean"):
        (folder / name).mkdir(parents=True)
        (folder / name / "0801.png").touch()


def test_a_rehearsal_on_empty_pictures(deflow: Deflow, tmp_path: Path) -> None:
    """The workflow itself, not a recorder."""
    lay_out(tmp_path / "aim")
    result = deflow("reproduce", "aim", "aim", "--dry-run")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "AIM-RWSR, to runs/reproduce-aim"
    assert any(line.startswith("1. prepare: clean images made small by 4 (about 1 s, ") for line in lines)
    assert any("fit of DeFlow, seed 0 (about 3:18:20, 1.0 GB)" in line for line in lines)
    assert any(line.startswith("left to do: about ") for line in lines)
    assert "a GAN step 34.8 ms" in lines[-1]
    assert not (tmp_path / "runs").exists()


def test_a_rehearsal_as_json_names_what_is_missing(deflow: Deflow, tmp_path: Path) -> None:
    (tmp_path / "aim").mkdir()
    result = deflow("reproduce", "aim", "aim", "--dry-run", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert len(document["missing_data"]) == 4
    assert document["steps"] == []
