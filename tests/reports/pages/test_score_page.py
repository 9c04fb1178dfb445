"""Score page: everything that the figures need to be judged stands in it, and nothing of a name is markup."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from deflow_cli.reports.pages.score_page import Example, Spread, figure, score_page

NAN = math.nan


def _metric(name: str, higher: bool, digits: int = 2, unit: str = "") -> dict[str, Any]:
    return {
        "name": name,
        "title": name.upper(),
        "higher_is_better": higher,
        "needs_reference": higher,
        "digits": digits,
        "variant": f"variant of {name}",
        "unit": unit,
    }


def _row(method: str, metric: str, mean: float, rank: int | None, **more: Any) -> dict[str, Any]:
    row = {"method": method, "metric": metric, "mean": mean, "median": mean, "std": 1.0, "n": 3, "of": 3}
    row |= {"low": mean - 1, "high": mean + 1, "infinite": 0, "rank": rank, "difference_to_best": None}
    return row | more


def _document(*methods: str) -> dict[str, Any]:
    several = len(methods) > 1
    metrics = [_metric("psnr", True, 2, "dB"), _metric("niqe", False, 4)]
    summaries, images = [], []
    for metric in metrics:
        for place, method in enumerate(methods):
            mean = 30.5 - place if metric["name"] == "psnr" else 4.25
            difference = {"mean": -1.0, "low": -1.5, "high": -0.5} if place else None
            summaries.append(
                _row(
                    method,
                    metric["name"],
                    mean,
                    place + 1 if several else None,
                    difference_to_best=difference,
                )
            )
            for image in ("a", "b", "c"):
                images.append(
                    {"method": method, "image": image, "metric": metric["name"], "value": mean}
                    | {"infinite": False, "reason": ""}
                )
    best = {m["name"]: {"method": methods[0], "images_compared": 3} for m in metrics} if several else {}
    return {
        "version": "1.2.3",
        "protocol": {"name": "sr", "text": "as papers", "crop_border": 4, "color": "rgb"},
        "reference": "gt",
        "pairing": "name",
        "device": "cpu",
        "seed": 5,
        "resamples": 2000,
        "metrics": metrics,
        "methods": [
            {"name": name, "source": f"/runs/{name}", "images": 3, "mean_rank": k + 1.0 if several else None}
            for k, name in enumerate(methods)
        ],
        "best": best,
        "summaries": summaries,
        "images": images,
        "unavailable": [],
        "notes": [],
    }


def _text(page: str) -> str:
    body = page.split("<body>")[1].split("<script>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_one_method_shows_its_figures_and_how_they_were_measured():
    text = _text(score_page(_document("mine")))
    for words in ("30.50", "29.50 to 31.50", "3 of 3", "variant of psnr", "variant of niqe", "4 px left out"):
        assert words in text
    for words in ("2000 resamples, seed 5", "deflow 1.2.3 on cpu", "/runs/mine"):
        assert words in text
    assert "Comparison" not in text


def test_several_methods_show_who_leads_and_by_how_much():
    text = _text(score_page(_document("mine", "theirs")))
    assert "mine leads with a mean rank of 1.00 over 2 metrics" in text
    assert "−1.00 (−1.50 to −0.50)" in text
    assert "Difference to mine" in text


def test_what_is_missing_is_said():
    document = _document("mine")
    document["images"][0] |= {"value": NAN, "reason": "12x12 is too small"}
    document["images"][1] |= {"value": math.inf, "infinite": True}
    document["unavailable"] = [{"metric": "lpips", "message": "no AlexNet", "next_step": "pull it"}]
    document["notes"] = ["one of three is not defined"]
    document["summaries"][0] |= {"low": NAN, "high": NAN, "std": NAN}
    text = _text(score_page(document))
    for words in ("12x12 is too small", "equal to its reference", "∞", "no AlexNet. Next: pull it"):
        assert words in text
    assert "one of three is not defined" in text
    assert "nan" not in text.lower()


def test_no_metric_at_all_still_is_a_page():
    document = _document("mine") | {"metrics": [], "summaries": [], "images": []}
    assert "How it was measured" in score_page(document)


def test_pictures_are_embedded_with_their_difference():
    rng = np.random.default_rng(0)
    picture, reference = (rng.integers(0, 255, (12, 16, 3), dtype=np.uint8) for _ in range(2))
    examples = [
        Example("Worst PSNR", "mine", "a", "PSNR 12.00 dB", picture, reference, "window at 3, 4"),
        Example("Best NIQE", "mine", "b", "NIQE 3", picture),
    ]
    spreads = [Spread("Methods differ by 3 dB", "c", (("reference", reference), ("mine", picture)))]
    page = score_page(_document("mine"), examples, spreads)
    assert page.count('src="data:image/png') == 3 + 1 + 2
    text = _text(page)
    for words in ("Worst PSNR: a of mine", "PSNR 12.00 dB; window at 3, 4", "Methods differ by 3 dB: c"):
        assert words in text
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_equal_pictures_have_a_difference_too():
    flat = np.full((8, 8, 3), 7, np.uint8)
    assert "16 times" in score_page(_document("m"), [Example("Best PSNR", "m", "a", "PSNR ∞", flat, flat)])


def test_names_are_no_markup():
    page = score_page(_document("<b>bold</b>", "a&b"))
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold" in page


def test_many_images_are_left_to_the_csv(monkeypatch):
    monkeypatch.setattr("deflow_cli.reports.pages.score_page.MOST_ROWS", 2)
    assert "3 rows are too many for a page" in _text(score_page(_document("mine")))


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1.005, 1, "1.0"), (-2.0, 2, "−2.00"), (math.inf, 2, "∞"), (NAN, 2, "–"), (None, 2, "–")],
)
def test_figures(value, digits, text):
    assert figure(value, digits) == text
