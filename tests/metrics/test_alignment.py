"""Alignment: known displacements are found between pixels, through noise, and confidence tells the rest."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from deflow_cli.data.images.resize import downsample
from deflow_cli.errors import ShapeError
from deflow_cli.metrics.alignment import displacement, luma_of


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A picture with structure of all sizes: 400 x 512."""
    rng = np.random.default_rng(0)
    layers = [cv2.resize(rng.normal(size=(h, w, 3)), (512, 400)) for h, w in ((8, 10), (30, 40), (100, 130))]
    return np.clip(128 + 30 * sum(layers), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("sigma", [0, 25])
@pytest.mark.parametrize(("right", "down"), [(0, 0), (3, 5), (-6, 2), (40, -28)])
def test_displacements_of_a_reduced_picture(scene: np.ndarray, right: int, down: int, sigma: float):
    moved = np.roll(scene, (down, right), (0, 1))
    first, second = (luma_of(downsample(picture, 4)) for picture in (scene, moved))
    found = displacement(first, second + np.random.default_rng(1).normal(0, sigma, second.shape))
    tolerance = 0.05 if sigma == 0 else 0.15
    assert found.right == pytest.approx(right / 4, abs=tolerance)
    assert found.down == pytest.approx(down / 4, abs=tolerance)
    assert found.confidence > 0.5


def test_every_fourth_pixel_is_displaced(scene: np.ndarray):
    """Its centre is (4 - 1) / 2 pixels before the centre of the four: 0.375 of a reduced one."""
    found = displacement(luma_of(downsample(scene, 4)), luma_of(scene[::4, ::4]))
    assert (found.right, found.down) == (pytest.approx(0.375, abs=0.06), pytest.approx(0.375, abs=0.06))


def test_pictures_with_nothing_in_common_have_no_confidence(scene: np.ndarray):
    noise = np.random.default_rng(2).normal(size=(100, 128))
    assert displacement(luma_of(downsample(scene, 4)), noise).confidence < 0.2
    assert displacement(np.zeros((64, 64)), np.ones((64, 64))).confidence == 0
    same = displacement(noise, noise)
    assert (same.length, same.confidence) == (pytest.approx(0, abs=1e-6), pytest.approx(1))


def test_sizes_must_be_equal():
    with pytest.raises(ShapeError, match="one size"):
        displacement(np.zeros((20, 20)), np.zeros((20, 21)))
