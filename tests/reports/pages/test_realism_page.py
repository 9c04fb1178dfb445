"""Realism page: sentences, tables, curves and crops of all sets, whatever is missing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np

from deflow_cli.reports.pages.realism_page import (
    CropRow,
    NoiseCurves,
    RealismPage,
    SyntheticPart,
    autocorrelation_maps,
    noise_figures,
    render_realism,
)

COLUMNS = ("figure", "synthetic", "95 % interval", "reference", "which is", "what it says")


def curves(name, std=5.0):
    levels = np.arange(-255, 256)
    histogram = np.rint(1e6 * np.exp(-0.5 * (levels / std) ** 2)).astype(np.int64)
    level = np.full(16, std)
    level[0] = np.nan
    acf = np.zeros((9, 9))
    acf[4, 4], acf[4, 5], acf[4, 3] = 1.0, 0.25, 0.25
    return NoiseCurves(name, np.linspace(20, 10, 64), histogram, level, acf, np.array([std, std + 1]))


def page(**changes):
    fields = {
        "title": "How real?",
        "subtitle": "a against b",
        "facts": {"Real: b": "3 images"},
        "kind": "Measured on residuals.",
        "curves": [curves("real: b"), curves("a <i>", 3.0)],
        "parts": [
            SyntheticPart(
                "a <i>",
                [("bad", "Too weak: 3 where the real noise has 5 & more."), ("good", "In order: colour.")],
                ["KID: too few images"],
                [["residuals: std", "3.00", "", "5.00", "real", "grey levels"]],
                [CropRow("p1", [("clean", np.full((8, 8, 3), 100, np.uint8))])],
            )
        ],
        "columns": COLUMNS,
    }
    return RealismPage(**(fields | changes))


class Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.words, self.images = [], 0

    def handle_starttag(self, tag, attrs):
        self.images += tag == "img"

    def handle_data(self, data):
        self.words.append(data)


def read(document):
    parser = Text()
    parser.feed(document)
    return " ".join(parser.words), parser.images


def test_sentences_figures_and_gaps_are_told():
    words, images = read(render_realism(page()))
    assert "Too weak: 3 where the real noise has 5 & more." in words
    assert "Not measured: KID: too few images" in words
    assert "residuals: std" in words
    assert "a <i>" in words
    assert images == 1


def test_the_summary_stands_only_where_several_sets_are_compared():
    assert "side by side" not in read(render_realism(page()))[0]
    summary = (["figure", "a", "c", "real"], [["std", "3.0", "4.0", "5.0 (real)"]])
    assert "4.0" in read(render_realism(page(summary=summary)))[0]


def test_the_histogram_keeps_every_count_within_its_reach():
    plots = [svg for svg, _ in noise_figures([curves("one", 2.0)])]
    assert all(svg.startswith("<svg") for svg in plots)
    wide = curves("wide", 60.0)
    assert "no data" not in noise_figures([wide])[2][0]


def test_the_middle_of_a_map_is_left_out():
    svg, _ = autocorrelation_maps([curves("one")])[0]
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert shown.count(".25") == 2
    assert shown.count("–") == 1
