"""`deflow check`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Deflow
from tests.workflows.check.test_run import good, stored


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return stored(tmp_path / "pairs", good(4))


def test_good_pairs(deflow: Deflow, pairs: Path):
    result = deflow("check", "pairs", "--gt-size", 128)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "pairs: 4 pairs, x4, gt 192x192"
    assert lines[1].startswith("alignment: ")
    assert lines[-1] == "nothing was found that would spoil a training"


def test_a_fault_ends_with_1_and_a_next_step(deflow: Deflow, pairs: Path):
    (pairs / "lq" / "0000002.png").unlink()
    result = deflow("check", "pairs")
    assert result.exit_code == 1
    assert "problem: pairs: 1 files have no partner on the other side: gt/0000002.png" in result.stdout
    assert "  next: add what is missing" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 problem that would spoil a training"
    as_json = deflow("check", "pairs", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["findings"][0]["keys"] == ["gt/0000002.png"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["none"], 1, "none: no such folder"),
        (["pairs", "--val", "none"], 1, "none: no such folder"),
        (["pairs", "--scale", 0], 2, "--scale is 0"),
        (["pairs", "--sample", -1], 2, "--sample is -1"),
    ],
)
def test_what_is_refused(deflow: Deflow, pairs: Path, options: list[str], code: int, message: str):
    result = deflow("check", *options)
    assert result.exit_code == code
    assert message in result.stderr
