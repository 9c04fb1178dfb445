"""Study page: what a report says stands in it, in every mode, and names are text."""

from __future__ import annotations

import math
from typing import Any

import pytest

from deflow_cli.errors import ConfigError
from deflow_cli.reports.pages.study_form import study_form
from deflow_cli.reports.pages.study_page import study_page


def document(mode: str = "rank", name: str = "ours") -> dict[str, Any]:
    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.5, "high": value + 0.25}

    ranked = mode == "rank"
    methods = [
        {
            "name": method,
            "letters": letters,
            "mean_rank": estimate(2.125) if ranked else None,
            "corrected": estimate(1.125) if ranked else None,
            "strength": estimate(0.625),
            "bradley_terry": estimate(0.5),
            "elo": estimate(87.0),
            "firsts": 0.75,
        }
        for method, letters in ((name, "a"), ("theirs", "b"))
    ]
    person = {"participant": "f00d", "trials": 9, "too_fast": 1, "checks": 8, "passed": 5, "accuracy": 0.625}
    identity = {"items": 3, "expected_sum": 6.0, "sum_of_methods": 4.8, "catch_from_sum": 1.2}
    return {
        "version": "1.2.3",
        "study": "abc123",
        "mode": mode,
        "kind": "reference",
        "crop": 96,
        "seed": 4,
        "draws": 2000,
        "rule": {"accuracy": 0.8, "checks": 5, "seconds": 2.0},
        "participants": {"recruited": 7, "kept": 6, "people": [{**person, "reason": "5 of 8 found"}]},
        "trials": dict.fromkeys(("files", "practice", "repeated", "answered", "too_fast", "kept"), 8)
        | {"of_people_left_out": 3},
        "methods": methods,
        "pairs": [
            {"first": name, "second": "theirs", "difference": estimate(0.3), "p": 0.01, "p_holm": 0.04}
        ],
        "separated": [],
        "identity": {**identity, "catch_counted": 1.2} if ranked else None,
        "agreement": {"mean_w": 0.4, "crops": [{"image": "i0", "trial": "t", "raters": 3, "w": 0.4}]}
        if ranked
        else None,
        "power": {"rank_sd": 1.2, "gap": 0.1, "trials_for_gap": 2260.8, "visible_gap": 0.3}
        if ranked
        else None,
        "metrics": [{"metric": "psnr", "spearman": math.nan, "methods": 2}],
        "notes": ["few people"],
    }


def test_a_ranking():
    page = study_page(document())
    for words in (
        "all methods ranked at once; 8 answers of 6 of 7 participants",
        "2.125",
        "1.62 to 2.38",
        "which leaves 1.200 for the catch item; counted, it is 1.200",
        "about 2261 independent trials",
        "5 of 8 found",
        "few people",
        "all methods have one value",
        "abc123",
        "Agreement on each image",
    ):
        assert words in page, words


@pytest.mark.parametrize("mode", ["2afc", "best"])
def test_without_ranks(mode: str):
    page = study_page(document(mode))
    assert "Mean rank" not in page
    assert "Agreement" not in page
    assert "0.625" in page


def test_names_are_text():
    assert "<b>" not in study_page(document(name="<b>x"))


def test_a_form_of_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match="mode 'tell'"):
        study_form({"mode": "tell"}, "reference", "title")
