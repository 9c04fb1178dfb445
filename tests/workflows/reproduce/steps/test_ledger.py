"""Ledger: done once, and again exactly where settings or the steps before changed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deflow_cli.errors import DataError
from deflow_cli.workflows.reproduce.steps.ledger import Facts, Ledger


@dataclass(frozen=True)
class Plain:
    name: str
    settings: Facts
    needs: tuple[str, ...] = field(default=())


def steps(rate: float = 1.0, other: int = 1) -> list[Plain]:
    return [
        Plain("fit/a", {"fit": {"rate": rate, "betas": (0.9, 0.99)}}),
        Plain("pairs/a", {"scale": 4}, ("fit/a",)),
        Plain("pairs/b", {"scale": 4, "other": other}),
    ]


def done(out: Path) -> Ledger:
    ledger = Ledger(out, steps())
    for step in steps():
        folder = ledger.begin(step.name)
        (folder / "result.txt").write_text(step.name)
        ledger.finish(step.name, {"of": step.name})
    return ledger


def conditions(ledger: Ledger) -> list[str]:
    return [ledger.standing(step.name).condition for step in steps()]


def test_a_new_experiment_becomes_a_done_one(tmp_path: Path) -> None:
    assert conditions(Ledger(tmp_path, steps())) == ["new", "new", "new"]
    done(tmp_path)
    again = Ledger(tmp_path, steps())
    assert conditions(again) == ["done", "done", "done"]
    assert again.result("pairs/a") == {"of": "pairs/a"}


def test_a_change_redoes_what_depends_on_it_and_says_why(tmp_path: Path) -> None:
    done(tmp_path)
    changed = Ledger(tmp_path, steps(rate=2.0))
    assert conditions(changed) == ["changed", "changed", "done"]
    assert changed.standing("fit/a").why == "fit.rate was 1.0, is 2.0"
    assert changed.standing("pairs/a").why == "it needs fit/a"
    assert conditions(Ledger(tmp_path, steps(other=2))) == ["done", "done", "changed"]


def test_a_changed_step_begins_with_an_empty_folder_and_an_interrupted_one_with_its_own(
    tmp_path: Path,
) -> None:
    done(tmp_path)
    changed = Ledger(tmp_path, steps(rate=2.0))
    folder = changed.begin("fit/a")
    assert list(folder.iterdir()) == []
    assert (tmp_path / "replaced" / "fit.a.1" / "result.txt").read_text() == "fit/a"
    assert changed.kept("fit/a").name == "fit.a.2"
    (folder / "half.txt").touch()
    assert changed.standing("fit/a").condition == "interrupted"
    assert [path.name for path in changed.begin("fit/a").iterdir()] == ["half.txt"]
    assert conditions(Ledger(tmp_path, steps())) == ["changed", "done", "done"]


def test_a_step_whose_outputs_are_gone_is_new(tmp_path: Path) -> None:
    ledger = done(tmp_path)
    (ledger.folder("pairs/b") / "result.txt").unlink()
    ledger.folder("pairs/b").rmdir()
    assert conditions(ledger) == ["done", "done", "new"]


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    ledger = done(tmp_path)
    record = tmp_path / "steps" / "pairs.b.json"
    record.write_text(record.read_text()[:40])
    with pytest.raises(DataError, match=r"pairs\.b\.json: cannot be read"):
        ledger.standing("pairs/b")
    record.write_text(json.dumps({"kind": "other"}))
    with pytest.raises(DataError, match="not a record of a step"):
        ledger.standing("pairs/b")
