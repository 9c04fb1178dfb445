"""Pictures of a space: images from the least to the most diverse, cut to one window, on one page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deflow_cli.data.images.resize import downsample
from deflow_cli.data.samples.matching import SampleSource
from deflow_cli.errors import CheckpointError
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.space import pictures
from deflow_cli.workflows.space import run as workflow
from deflow_cli.workflows.space.run import SpaceReport, SpaceRequest, score_space


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SpaceReport:
    """Three images, each more diverse than the one before, at two temperatures."""

    def locate(name: str, given: Path | None = None, option: str = "") -> Path:
        raise CheckpointError(f"{name}: not here", next_step="pull it")

    monkeypatch.setattr(workflow, "locate", locate)
    rng = np.random.default_rng(0)
    for place, name in enumerate("abc"):
        truth = np.tile(rng.integers(60, 200, (1, 64, 3)), (48, 1, 1)).astype(np.uint8)
        _save(tmp_path / f"gt/{name}.png", truth)
        _save(tmp_path / f"lq/{name}.png", downsample(truth, 4))
        for temperature in (0.5, 1):
            for k in (1, 2):
                noisy = truth + 20.0
                noisy[:, 40:] += temperature * 10 * place * rng.normal(size=(48, 24, 3))
                target = tmp_path / f"out/t{temperature}/{name}_s{k:02d}.png"
                _save(target, np.clip(noisy, 0, 255).astype(np.uint8))
    request = SpaceRequest((SampleSource(tmp_path / "out"),), tmp_path / "gt", tmp_path / "lq", device="cpu")
    return score_space(request, Silent())


def test_images_are_shown_from_the_least_to_the_most_diverse(report, monkeypatch):
    assert pictures.pick_images(report) == [
        ("a", "Least diverse"),
        ("b", "Between them"),
        ("c", "Most diverse"),
    ]
    monkeypatch.setattr(pictures, "SHOWN_IMAGES", 2)
    assert [name for name, _ in pictures.pick_images(report)] == ["a", "c"]


def test_the_window_is_where_samples_vary(report, monkeypatch):
    monkeypatch.setattr(pictures, "SAMPLES_SIDE", 24)
    example = list(pictures._examples(report))[2]
    assert {picture.picture.shape for picture in example.samples} == {(24, 24, 3)}
    assert example.low is not None
    assert example.best is not None
    assert example.truth.shape == example.low.shape == example.best.shape == (24, 24, 3)
    assert re.match(r"window at (3\d|40), \d+ of 64x48, where the samples vary most", example.cut)


def test_the_page_shows_all_samples_or_as_many_as_a_phone_loads(report, monkeypatch):
    page = pictures.space_html(report)
    assert page.startswith("<!doctype html>")
    assert page.count('class="picture sample"') == 12
    assert "PSNR" in page
    assert "Best temperature" in page
    monkeypatch.setattr(pictures, "SHOWN_SAMPLES", 2)
    assert pictures.space_html(report).count('class="picture sample"') == 6


def test_an_image_that_is_gone_is_left_out(report):
    report.sets[0].images[0].samples[0].unlink()
    assert pictures.space_html(report).count('class="picture sample"') == 8
