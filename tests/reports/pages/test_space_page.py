"""Space page: figures, sliders' material and maps stand in it, and nothing of a name is markup."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from deflow_cli.reports.pages.space_page import SamplePicture, SpaceExample, space_page, temperature_label

NAN = math.nan
MEASURES = (("diversity", "higher", "↑", ""), ("lpips-mean", "lower", "↓", ""), ("calibration", "", "", "%"))


def _document(*temperatures: float | None, images: tuple[str, ...] = ("a", "b")) -> dict[str, Any]:
    several = len(temperatures) > 1
    measures = [
        {
            "name": name,
            "title": name.title(),
            "short": name[:5],
            "better": better,
            "arrow": arrow,
            "unit": unit,
        }
        | {"digits": 2, "variant": f"variant of {name}"}
        for name, better, arrow, unit in MEASURES
    ]
    summaries, rows = [], []
    for place, temperature in enumerate(temperatures):
        for measure in measures:
            mean = NAN if measure["name"] == "calibration" else 10.5 + place
            row = {"temperature": temperature, "measure": measure["name"], "mean": mean, "median": mean}
            row |= {"std": 1.0, "low": mean - 1, "high": mean + 1, "n": 2, "of": 2, "infinite": 0}
            summaries.append(row)
            for image in images:
                one = {"temperature": temperature, "image": image, "measure": measure["name"], "value": mean}
                rows.append(one | {"infinite": False, "reason": "too few" if math.isnan(mean) else ""})
    maps = [
        {"image": image, "temperatures": list(temperatures), "shares": [0.75, 0.25], "distances": [0.1, 0.2]}
        | {"best": temperatures[0], "distance_of_best_per_pixel": 0.09, "gain": 0.1}
        for image in images
    ]
    return {
        "version": "1.2.3",
        "reference": "gt",
        "low": "lq",
        "scale": 4,
        "device": "cpu",
        "seed": 5,
        "resamples": 2000,
        "distance": "spatial LPIPS",
        "measures": measures,
        "sets": [
            {"temperature": temperature, "source": f"/out/{place}", "images": len(images), "samples": 3}
            | {"ranks": [0.4, 0.1, 0.1, 0.4], "growth": [0.0, 5.0, 8.0]}
            for place, temperature in enumerate(temperatures)
        ],
        "summaries": summaries,
        "images": rows,
        "samples": [],
        "best_temperatures": maps if several and len(temperatures) == 2 else [],
        "unavailable": None,
        "unreadable": [],
        "notes": ["few images"],
    }


def _example(*groups: str, name: str = "a") -> SpaceExample:
    picture = np.zeros((8, 12, 3), np.uint8)
    samples = tuple(
        SamplePicture(group, f"{k} of 2", "PSNR 20.00 dB", picture + 40 * k)
        for group in groups
        for k in (1, 2)
    )
    return SpaceExample("Most diverse", name, picture, samples, picture + 1, picture + 2, "window at 0, 0")


def _text(page: str) -> str:
    body = page.split("<body>")[1].split("<script>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


class _Figures(HTMLParser):
    """Which figures of samples a page has, and that every element opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.samples: list[tuple[str | None, str | None]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if "sample" in (found.get("class") or "").split():
            self.samples.append((found.get("data-group"), found.get("data-step")))
        if tag in ("figure", "div", "ul", "li", "table", "main", "p"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("figure", "div", "ul", "li", "table", "main", "p"):
            assert self.open.pop() == tag


def test_one_set_shows_means_with_intervals_and_how_they_were_measured():
    text = _text(space_page(_document(None)))
    for words in ("2 images, 3 samples of each", "10.50", "9.50 to 11.50", "2 of 2", "variant of diversity"):
        assert words in text
    for words in ("few images", "2000 resamples, seed 5", "deflow 1.2.3 on cpu", "/out/0", "Rank histogram"):
        assert words in text
    assert "Best temperature" not in text
    assert "nan" not in text.lower()


def test_a_few_temperatures_stand_side_by_side_and_many_below_one_another():
    text = _text(space_page(_document(0.0, 0.8), colours=[(68, 1, 84), (253, 231, 36)]))
    for words in ("at 2 temperatures", "at 0.8", "11.50", "would save 10.0 %", "75.0", "2 of 2"):
        assert words in text
    many = space_page(_document(*(place / 10 for place in range(7))))
    assert "at 0.3" not in _text(many)
    assert re.search(r'<th scope="col">Temperature', many)


def test_samples_carry_what_the_sliders_need():
    page = space_page(_document(0.0, 0.8), [_example("0", "0.8")], [(68, 1, 84), (253, 231, 36)])
    parser = _Figures()
    parser.feed(page.split("<body>")[1].split("<script>")[0])
    assert parser.open == []
    assert parser.samples == [("0", "1 of 2"), ("0", "2 of 2"), ("0.8", "1 of 2"), ("0.8", "2 of 2")]
    for words in ("temperature 0.8, 2 of 2", "PSNR 20.00 dB", "window at 0, 0", "input", "0 (75 %)"):
        assert words in _text(page)
    assert page.count("data:image/png") == 7
    assert "background:#440154" in page
    assert "figure.space" in page.split("<script>")[1]


def test_many_samples_are_embedded_as_jpeg_but_maps_never():
    page = space_page(_document(None), [_example(*(str(group) for group in range(16)))])
    assert page.count("data:image/jpeg") == 33  # the truth too, so that the two can be compared
    assert page.count("data:image/png") == 2


def test_samples_without_temperature_name_none():
    assert "temperature samples" not in _text(space_page(_document(None), [_example("samples")]))
    assert temperature_label(None) == "samples"


def test_names_are_text():
    evil = "<img src=x onerror=alert(1)>\"&'"
    document = _document(None, images=(evil, "b")) | {"reference": evil, "low": evil}
    document["unreadable"] = [evil]
    document["unavailable"] = {"message": evil, "next_step": evil}
    document["sets"][0]["source"] = evil
    page = space_page(document, [_example("0", name=evil)])
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert "http" not in re.sub(r"data:[^\"]+", "", page.split("<main>")[1].split("</main>")[0]).replace(
        "http://www.w3.org", ""
    )


def test_more_images_than_a_browser_sorts_are_left_to_the_csv(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("deflow_cli.reports.pages.space_page.MOST_TABLE_ROWS", 1)
    assert "2 rows are too many for a page" in _text(space_page(_document(None)))
