"""The fit page: its order, what it leaves out where there is nothing, and its curves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from deflow_cli.reports.pages.fit_page import (
    Component,
    FitPage,
    Preview,
    RealismPart,
    Spectrum,
    render_fit,
    smoothed,
)

GREY = np.full((8, 8, 3), 128, dtype=np.uint8)


@pytest.fixture
def page() -> FitPage:
    preview = Preview(
        "a.png", [("clean", GREY), ("at 1", GREY)], [("added", GREY)], "Amplified.", (GREY, GREY)
    )
    steps = list(range(1, 41))
    return FitPage(
        title="Model <x>",
        subtitle="of & for",
        verdict=[("bad", "Too weak in the shadows."), ("good", "The fit finished.")],
        facts={"Preset": "tiny"},
        notes=["The clean folder is gone."],
        previews=[preview],
        grain=[[("model", GREY)], [("real", GREY)]],
        strength=[[0.0, 0.1, 0.0, 0.0, 0.0, 0.0], [1.0, 9.876, 8.0, 0.1, 0.2, -0.3]],
        history={
            "clean": (steps, [2 + 1 / s for s in steps]),
            "noisy": (steps, [3 + 1 / s for s in steps]),
            "held_out_noisy": ([20, 40], [3.1, 3.05]),
            "rate": (steps, [1e-3] * 40),
        },
        spectra=[Spectrum("Latent 1", [[2.0, 0.5, 0.0], [3.0, 1.0, 0.1]], [0.5, 0.6], [1.5, 1.9])],
        components=[Component(0.25, GREY, [("b.png", GREY)]), Component(0.75, GREY)],
        configuration="[fit]\nseed = 0\n",
        realism=RealismPart(
            [], (("figure", "synthetic"), [["std", "9.0"]]), "Compared.", [("<svg></svg>", "A plot")]
        ),
    )


def positions(text: str, words: list[str]) -> list[int]:
    return [text.index(word) for word in words]


def test_order_is_what_a_reader_needs_first(page: FitPage) -> None:
    text = render_fit(page).partition("<main>")[2]
    found = positions(
        text,
        [
            "Too weak in the shadows.",
            "The fit finished.",
            "Preset",
            "The clean folder is gone.",
            "a.png",
            "9.88",
            "Compared.",
            "A plot",
            "Clean images",
            "Latent 1",
            "b.png",
            "seed = 0",
        ],
    )
    assert found == sorted(found)


def test_texts_are_escaped(page: FitPage) -> None:
    text = render_fit(page)
    assert "Model &lt;x&gt;" in text
    assert "of &amp; for" in text


def test_what_there_is_nothing_of_is_left_out(page: FitPage) -> None:
    bare = dataclasses.replace(
        page,
        notes=[],
        previews=[],
        grain=[],
        history={},
        spectra=[],
        components=[Component(1.0)],
        configuration="",
        realism=None,
    )
    text = render_fit(bare)
    for heading in (
        "How real it is",
        "Training",
        "The learnt shift",
        "Mixture",
        "Configuration",
        "Two samples",
    ):
        assert f">{heading}" not in text
    assert "Verdict" in text


def test_held_out_points_stand_beside_the_curves(page: FitPage) -> None:
    noisy = render_fit(page).partition("Noisy images")[2].partition("</svg>")[0]
    for name in ("raw", "smoothed", "held out"):
        assert name in noisy


def test_smoothed_keeps_lines_and_ends() -> None:
    line = np.linspace(3.0, 1.0, 50)
    assert np.allclose(smoothed(line), line)
    rough = np.random.default_rng(0).standard_normal(200)
    assert smoothed(rough).std() < 0.5 * rough.std()
    assert len(smoothed([1.0])) == 1
