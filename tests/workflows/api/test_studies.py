"""The API's studies: the commands' pages and figures, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import deflow_cli
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.workflows.study.records import read_key
from tests.cli.conftest import Deflow
from tests.workflows.study.participants import METHODS, by_strength, lay_out, write_answers

STRENGTHS = {"method-p": 2.0, "method-q": 0.0, "method-r": -2.0}


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    return tmp_path


def test_a_study_is_the_commands(deflow: Deflow, outputs: Path) -> None:
    options = {"trials": 6, "crop": 16, "zoom": 3, "title": "Which?", "contact": "ann", "seed": 5}
    made = deflow_cli.make_study(METHODS, "ours", lq="lq", mode="2afc", every_pair=True, **options)
    assert isinstance(made, deflow_cli.MakeStudyRecord)
    assert (made.methods, made.mode, made.page) == (METHODS, "2afc", Path("ours/page/study.html"))
    named = [part for name, value in options.items() for part in (f"--{name}", value)]
    done = deflow("study", "make", *METHODS, "theirs", "--lq", "lq", "--mode", "2afc", "--every-pair", *named)
    assert done.exit_code == 0, done.output
    for file in ("page/study.html", "key.json"):
        assert (outputs / "ours" / file).read_bytes() == (outputs / "theirs" / file).read_bytes()


def test_figures_are_the_commands(deflow: Deflow, outputs: Path) -> None:
    made = deflow_cli.make_study([outputs / name for name in METHODS], "study", ref="gt", trials=8, crop=16)
    key = read_key(made.key)
    for number in range(3):
        choose = by_strength(STRENGTHS, np.random.default_rng(number))
        write_answers(outputs / f"answers/{number}.json", key, f"person {number}", choose)
    write_answers(outputs / "more.json", key, "hasty", choose, seconds=0.5)
    report = deflow_cli.score_study("answers", made.key, draws=200, seed=3)
    assert isinstance(report, deflow_cli.StudyReport)
    assert [method.name for method in report.figures.methods] == list(METHODS)
    ranks = [method.mean_rank.value for method in report.figures.methods]
    assert ranks == sorted(ranks)
    done = deflow(
        "study", "score", "answers", "--key", "study/key.json", "--draws", 200, "--seed", 3, "--json"
    )
    assert json.loads(done.stdout) == json.loads(json.dumps(report.as_dict()))

    both = ["answers", "more.json"]
    strict = deflow_cli.score_study(both, made.key, draws=200)
    assert [person.participant for person in strict.people if person.reason] == ["hasty"]
    lenient = deflow_cli.score_study(both, made.key, draws=200, min_seconds=0.1)
    assert not any(person.reason for person in lenient.people)
    assert len(lenient.kept) == len(strict.kept) + 8


def test_what_is_refused(outputs: Path) -> None:
    with pytest.raises(ConfigError, match="references or low-resolution sources"):
        deflow_cli.make_study(METHODS, "study", trials=5, crop=16)
    with pytest.raises(ConfigError, match="mode"):
        deflow_cli.make_study(METHODS, "study", ref="gt", mode="guess", crop=16)  # type: ignore[arg-type]
    assert not (outputs / "study").exists()
    made = deflow_cli.make_study(METHODS, "study", ref="gt", trials=5, crop=16)
    with pytest.raises(DataError, match="nowhere"):
        deflow_cli.score_study("nowhere", made.key)
    with pytest.raises(ConfigError, match=r"least accuracy is 1\.5"):
        deflow_cli.score_study("gt", made.key, min_accuracy=1.5)
    with pytest.raises(ConfigError, match="draws"):
        deflow_cli.score_study("gt", made.key, draws=3)
