"""`deflow study`: requests, messages and exit codes; then both commands as they are."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deflow_cli.workflows.study.records import read_key
from tests.cli.conftest import Deflow, Recorder, install_workflow
from tests.workflows.study.participants import METHODS, by_strength, lay_out, write_answers


@pytest.fixture
def make_workflow(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = SimpleNamespace(trials=9, methods=("a", "b"), images=3, catch_trials=2, forms=24, study="f00")
    made.page, made.key, made.bytes = Path("out/page/study.html"), Path("out/key.json"), 1_234_567
    recorder = Recorder(made)

    def request(*values):
        return values

    install_workflow(monkeypatch, "study.make", make_study=recorder, MakeStudyRequest=request)
    return recorder


@pytest.fixture
def methods(tmp_path: Path) -> list[str]:
    for name in ("a", "b", "gt"):
        (tmp_path / name).mkdir()
    return ["a", "b"]


def test_make_asks_and_tells(deflow: Deflow, make_workflow: Recorder, methods: list[str]):
    options = ["--mode", "2afc", "--trials", 12, "--crop", 64, "--zoom", 3, "--every-pair", "--seed", 5]
    result = deflow(
        "study", "make", *methods, "out", "--ref", "gt", *options, "--title", "T", "--contact", "C"
    )
    assert result.exit_code == 0
    assert make_workflow.requests == [
        ((Path("a"), Path("b")), Path("out"), Path("gt"), None, "2afc", 12, 64, 3, True, "T", "C", 5)
    ]
    assert "9 trials of 2 methods on 3 images, 2 with a catch item, in 24 orders; study f00" in result.stdout
    assert "for participants: out/page/study.html (1.2 MB)" in result.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["a", "b", "out"], "a study shows references or sources"),
        (["a", "b", "out", "--ref", "gt", "--lq", "gt"], "a study shows references or sources"),
        (["a", "b", "out", "--ref", "gt", "--mode", "tell"], "--mode is 'tell'"),
        (["a", "c", "out", "--ref", "gt"], "c: no such folder"),
        (["a", "b", "out", "--ref", "none"], "none: no such folder"),
    ],
)
def test_make_refuses(deflow: Deflow, make_workflow: Recorder, methods: list[str], args, message: str):
    result = deflow("study", "make", *args)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert not make_workflow.requests


def test_both_commands(deflow: Deflow, tmp_path: Path):
    lay_out(tmp_path)
    options = ["--ref", "gt", "--trials", 6, "--crop", 32, "--json"]
    made = deflow("study", "make", *METHODS, "out", *options)
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["trials"] == 6
    key, rng = read_key(Path("out/key.json")), np.random.default_rng(0)
    for number in range(4):
        choose = by_strength(dict(zip(METHODS, (2.0, 0.0, -2.0), strict=True)), rng)
        write_answers(Path("answers") / f"{number}.json", key, str(number), choose)
    write_answers(Path("answers/late.json"), key, "late", choose, seconds=0.4)
    score = ["study", "score", "answers", "--key", "out/key.json", "--draws", 200]
    result = deflow(*score, "--html", "page.html")
    assert result.exit_code == 0, result.output
    for words in (
        "without catch item",
        "participants: 5, of whom 4 kept",
        "left out: late: 0 catch items seen",
    ):
        assert words in result.stdout
    assert (
        "mean ranks 1 to 4 sum to 10: 10 - 9.000 = 1.000 is the catch item's, counted 1.000" in result.stdout
    )
    assert "written: page.html" in result.stderr
    document = json.loads(deflow(*score, "--json").stdout)
    assert [method["name"] for method in document["methods"]] == list(METHODS)
    assert document["participants"]["kept"] == 4
    assert deflow(*score[:3], "--key", "none.json").exit_code == 1
    assert "--min-accuracy is 80" in deflow(*score, "--min-accuracy", 80).stderr
