"""Scoring a study: simulated participants, who is left out, files that do not fit, metrics beside people."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.errors import ConfigError, DataError
from deflow_cli.metrics.study.attention import AttentionRule
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.study.make import MakeStudyRequest, make_study
from deflow_cli.workflows.study.records import CATCH, StudyKey, read_key
from deflow_cli.workflows.study.score import ScoreStudyRequest, StudyReport, score_study
from tests.workflows.study.participants import METHODS, by_strength, lay_out, write_answers

STRENGTHS = dict(zip(METHODS, (1.0, 0.0, -1.0), strict=True))


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StudyKey]:
    root = tmp_path_factory.mktemp("studies")
    lay_out(root)
    folders = tuple(root / name for name in METHODS)
    keys = {}
    for mode in ("rank", "2afc", "best"):
        request = MakeStudyRequest(folders, root / mode, root / "gt", None, mode, 20, 32)
        keys[mode] = read_key(make_study(request, Silent()).key)
    return keys


@pytest.fixture
def answers(tmp_path: Path, studies: dict[str, StudyKey]) -> Path:
    """Twelve good participants of the ranking study; the key beside them."""
    (tmp_path / "key.json").write_text(studies["rank"].text(), encoding="utf-8")
    good(tmp_path / "answers", studies["rank"], 12)
    return tmp_path / "answers"


def good(folder: Path, key: StudyKey, people: int) -> None:
    rng = np.random.default_rng(1)
    for number in range(people):
        choose = by_strength(STRENGTHS, rng, firsts=key.mode == "best")
        write_answers(folder / f"p{number}.json", key, f"person-{number}", choose)


def scored(answers: Path, **options) -> StudyReport:
    request = ScoreStudyRequest((answers,), answers.parent / "key.json", **{"draws": 400, **options})
    return score_study(request, Silent())


@pytest.mark.parametrize("mode", ["rank", "2afc", "best"])
def test_strengths_are_found_in_every_mode(tmp_path: Path, studies: dict[str, StudyKey], mode: str):
    (tmp_path / "key.json").write_text(studies[mode].text(), encoding="utf-8")
    good(tmp_path / "answers", studies[mode], 25)
    report = scored(tmp_path / "answers")
    assert [method.name for method in report.figures.methods] == list(METHODS)
    for method in report.figures.methods:
        assert method.strength.low - 0.1 <= STRENGTHS[method.name] <= method.strength.high + 0.1
        assert method.strength.value == pytest.approx(STRENGTHS[method.name], abs=0.35)
        assert method.elo.value == pytest.approx(method.bradley_terry.value * 400 / math.log(10))
    assert [method.letters for method in report.figures.methods] == ["a", "b", "c"]
    document = report.as_dict()
    assert (document["identity"] is not None) == (mode == "rank")
    assert document["trials"]["kept"] == 25 * (20 if mode == "rank" else 25)
    assert document["trials"]["practice"] == 25


def test_mean_ranks_and_the_identity(answers: Path):
    document = scored(answers).as_dict()
    identity = document["identity"]
    assert identity["catch_from_sum"] == pytest.approx(identity["catch_counted"])
    assert identity["catch_counted"] == 1
    assert identity["sum_of_methods"] == pytest.approx(9)
    for method in document["methods"]:  # the catch item is always first, so all others are one place lower
        assert method["mean_rank"]["value"] == pytest.approx(method["corrected"]["value"] + 1)
        assert method["mean_rank"]["low"] < method["mean_rank"]["value"] < method["mean_rank"]["high"]
    assert sum(method["corrected"]["value"] for method in document["methods"]) == pytest.approx(6)
    assert 0 < document["agreement"]["mean_w"] < 1
    assert len(document["agreement"]["crops"]) == 20
    power = document["power"]
    assert power["trials_for_gap"] == pytest.approx(15.7 * power["rank_sd"] ** 2 / 0.01)


def test_who_does_not_look_is_left_out(answers: Path, studies: dict[str, StudyKey]):
    rng, key = np.random.default_rng(2), studies["rank"]

    def lazy(trial, names):
        return [[name] for name in rng.permutation(names)]

    write_answers(answers / "lazy.json", key, "lazy", lazy)
    write_answers(answers / "fast.json", key, "fast", by_strength(STRENGTHS, rng), seconds=1.9)
    document = scored(answers).as_dict()
    assert document["participants"]["recruited"] == 14
    assert document["participants"]["kept"] == 12
    left_out = {
        row["participant"]: row["reason"] for row in document["participants"]["people"] if row["reason"]
    }
    assert set(left_out) == {"lazy", "fast"}
    assert document["trials"]["too_fast"] == document["trials"]["of_people_left_out"] == 20
    everyone = scored(answers, rule=AttentionRule(0, 0, 0)).as_dict()
    assert everyone["trials"]["kept"] == 14 * 20
    # A catch item that was not always first still obeys the identity.
    assert everyone["identity"]["catch_counted"] > 1
    assert everyone["identity"]["catch_from_sum"] == pytest.approx(everyone["identity"]["catch_counted"])


def test_a_source_must_be_last(tmp_path: Path):
    lay_out(tmp_path)
    folders = tuple(tmp_path / name for name in METHODS)
    request = MakeStudyRequest(folders, tmp_path / "s", None, tmp_path / "lq", trials=10, crop=32)
    key = read_key(make_study(request, Silent()).key)
    rng = np.random.default_rng(3)

    def choose(trial, names):
        others = by_strength(STRENGTHS, rng)(trial, [name for name in names if name != CATCH])
        return [*others, [CATCH]]

    for number in range(6):
        write_answers(tmp_path / "answers" / f"{number}.json", key, str(number), choose)
    write_answers(tmp_path / "answers" / "x.json", key, "x", by_strength(STRENGTHS, rng))  # source first
    request = ScoreStudyRequest((tmp_path / "answers",), tmp_path / "s" / "key.json", draws=100)
    document = score_study(request, Silent()).as_dict()
    assert document["participants"]["kept"] == 6
    assert document["identity"]["catch_counted"] == 4
    assert document["methods"][0]["mean_rank"] == document["methods"][0]["corrected"]


def test_equal_rankings_are_separated(tmp_path: Path, studies: dict[str, StudyKey]):
    key = studies["rank"]
    (tmp_path / "key.json").write_text(key.text(), encoding="utf-8")

    def choose(trial, names):
        return [[CATCH], *([name] for name in METHODS)]

    for number in range(4):
        write_answers(tmp_path / "answers" / f"{number}.json", key, str(number), choose)
    document = scored(tmp_path / "answers").as_dict()
    assert document["agreement"]["mean_w"] == 1
    assert document["separated"] == ["Plackett-Luce", "Bradley-Terry"]
    assert any("separated" in note for note in document["notes"])
    assert max(abs(method["strength"]["value"]) for method in document["methods"]) <= 10
    assert any("4 participants are too narrow" in note for note in document["notes"])


def test_random_rankings_are_not_told_apart(tmp_path: Path, studies: dict[str, StudyKey]):
    key, rng = studies["rank"], np.random.default_rng(4)
    (tmp_path / "key.json").write_text(key.text(), encoding="utf-8")
    for number in range(15):
        write_answers(
            tmp_path / "answers" / f"{number}.json",
            key,
            str(number),
            by_strength(dict.fromkeys(METHODS, 0.0), rng),
        )
    for method in scored(tmp_path / "answers").figures.methods:
        assert method.strength.low < 0 < method.strength.high
        assert method.letters == "a"


def test_answers_that_are_there_twice_count_once(answers: Path, studies: dict[str, StudyKey]):
    before = scored(answers).as_dict()
    (answers / "again.json").write_bytes((answers / "p3.json").read_bytes())
    after = scored(answers).as_dict()
    assert after["trials"]["repeated"] == 20
    assert after["trials"]["answered"] == before["trials"]["answered"]
    assert after["pairs"] == before["pairs"]
    assert any("20 answers were there twice" in note for note in after["notes"])


def test_same_seed_same_figures(answers: Path):
    first, second, third = (
        scored(answers).as_dict(),
        scored(answers).as_dict(),
        scored(answers, seed=1).as_dict(),
    )
    assert first == second
    assert first["pairs"] != third["pairs"]


def test_answers_to_another_study_are_refused(answers: Path, studies: dict[str, StudyKey]):
    good(answers / "other", studies["2afc"], 1)
    (answers / "other" / "p0.json").rename(answers / "strange.json")
    with pytest.raises(
        DataError, match=rf"1 of 13 files answer another study.*strange.json \({studies['2afc'].study}\)"
    ):
        scored(answers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-9], "p0.json: not JSON"),
        (lambda text: text.replace("deflow-study-answers", "other"), "p0.json: no file of format"),
        (lambda text: text.replace('"version": 1', '"version": 7'), "p0.json: version 7, not 1"),
        (lambda text: text.replace('"seconds"', '"second"', 1), "p0.json: answer 1 does not fit"),
    ],
)
def test_broken_files_are_named(answers: Path, change, message: str):
    path = answers / "p0.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        scored(answers)


def test_a_candidate_ranked_twice_is_refused(answers: Path):
    path = answers / "p0.json"
    document = json.loads(path.read_text())
    document["answers"][3]["ranking"][0] = document["answers"][3]["ranking"][1]
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"p0.json: answer 4 does not fit the study \(each candidate"):
        scored(answers)


def test_nothing_left_says_why(answers: Path):
    with pytest.raises(DataError, match=r"12 of 12 participants are left out .*fewer than 50"):
        scored(answers, rule=AttentionRule(checks=50))
    with pytest.raises(ConfigError, match="--draws is 5"):
        scored(answers, draws=5)


def test_a_key_that_is_none(answers: Path):
    (answers.parent / "key.json").write_text("{}")
    with pytest.raises(DataError, match=r"key.json: no file of format deflow-study-key"):
        scored(answers)


CSV = "method,image,metric,value,reason,variant\n"


def csv_rows(metric: str, values: tuple[float, ...]) -> str:
    return "".join(
        f"{name},{i},{metric},{value + i},,v\n"
        for name, value in zip(METHODS, values, strict=True)
        for i in (0, 1)
    )


def test_metrics_beside_people(answers: Path, tmp_path: Path):
    table = tmp_path / "scores.csv"
    table.write_text(
        CSV
        + csv_rows("psnr", (30, 28, 25))
        + csv_rows("lpips", (0.1, 0.2, 0.3))
        + csv_rows("niqe", (5, 4, 3))
    )
    orders = {one.metric: one.spearman for one in scored(answers, metrics=table).orders}
    assert orders == {"psnr": pytest.approx(1), "lpips": pytest.approx(1), "niqe": pytest.approx(-1)}


def test_metrics_as_json(answers: Path, tmp_path: Path):
    table = tmp_path / "scores.json"
    rows = [
        {"metric": "own", "method": name, "mean": mean} for name, mean in zip(METHODS, (3, 1, 2), strict=True)
    ]
    table.write_text(json.dumps({"metrics": [{"name": "own", "higher_is_better": True}], "summaries": rows}))
    (order,) = scored(answers, metrics=table).orders
    assert order.spearman == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CSV + "method-p,0,psnr,30,,v\n", "psnr of method-q, method-r is missing; it has method-p"),
        (CSV + csv_rows("own", (1, 2, 3)), "whether higher is better for own"),
        ("a,b\n1,2\n", "no scores of `deflow score`"),
        ("{}", "no scores of `deflow score`"),
        (CSV, "holds no scores"),
    ],
)
def test_metrics_that_do_not_fit(answers: Path, tmp_path: Path, text: str, message: str):
    table = tmp_path / "scores"
    table.write_text(text)
    with pytest.raises(DataError, match=message):
        scored(answers, metrics=table)
