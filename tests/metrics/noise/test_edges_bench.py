"""Detail at edges shows blur and sharpening under noise that hides them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.photos import packaged_photos

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def edges(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import edges

    return edges


@pytest.fixture(scope="module")
def photos():
    return [read_rgb8(path)[:256, :256] for path in (*packaged_photos()[0], *packaged_photos()[1])]


def noisy(photo, number, deviation=12.0):
    noise = deviation * np.random.default_rng(number).standard_normal(photo.shape)
    return np.clip(np.rint(photo + noise), 0, 255).astype(np.uint8)


def blurred(photo):
    return cv2.GaussianBlur(photo, (0, 0), 1.0)


def ratio(edges, pictures, photos):
    return edges.EdgeDetail.of(pictures).over(edges.EdgeDetail.of(photos), same_scenes=True)


@pytest.mark.slow(seconds=4)
def test_noise_alone_leaves_detail_at_edges(edges, photos):
    found, error = ratio(edges, [noisy(photo, n) for n, photo in enumerate(photos)], photos)
    assert np.all(np.abs(found[:, 0] - 1) < 0.03)
    assert np.all(np.abs(found[:, 0] - 1) < 3 * error[:, 0])


@pytest.mark.slow(seconds=7)
def test_a_blur_is_seen_under_noise(edges, photos):
    """As much is left of luminance as without noise, and as the blur's frequency response says."""
    soft = [blurred(photo) for photo in photos]
    plain, _ = ratio(edges, soft, photos)
    hidden, _ = ratio(edges, [noisy(photo, n) for n, photo in enumerate(soft)], photos)
    assert np.all(np.abs(hidden[:, 0] - plain[:, 0]) < 0.03)
    expected = [np.exp(-2 * (np.pi * (low + high) / 2) ** 2) for low, high in edges.BANDS]
    assert np.all(np.abs(hidden[:, 0] - expected) < 0.05)


def test_the_table_has_a_row_for_each_channel(edges, photos):
    text = edges.table([("blur", ratio(edges, [blurred(photo) for photo in photos[:4]], photos[:4]))])
    lines = text.splitlines()
    assert len(lines) == 2 + 3
    assert lines[2].startswith("| blur | luminance | 0.")
