"""Where crops are drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from deflow_cli.data.blur.crop_probabilities import (
    crop_probabilities,
    draw_corners,
    gradient_map,
    large_crop_probabilities,
)


def picture_with_an_edge(at=70):
    pixels = np.full((120, 140, 3), 60, np.uint8)
    pixels[:, at:] = 180
    return pixels


def test_map_is_strong_at_the_edge_only():
    gradients = gradient_map(picture_with_an_edge())
    assert gradients.mean() == pytest.approx(1)
    assert gradients[:, 66:74].sum() == pytest.approx(gradients.sum())
    assert not gradients[:3].any()  # a frame of 5 px has none, the mean over 5 px reaches 2 into it


def test_flat_pictures_have_none_and_crops_anywhere():
    flat = gradient_map(np.full((120, 140, 3), 60, np.uint8))
    assert not flat.any()
    probabilities = crop_probabilities(flat, 26)
    assert np.ptp(probabilities) == 0
    assert probabilities.sum() == pytest.approx(1)


def test_crops_hold_the_edge_and_lie_inside_at_even_places():
    pixels = picture_with_an_edge()
    random = np.random.Generator(np.random.PCG64(0))
    for probabilities, size in (
        (crop_probabilities(gradient_map(pixels), 26), 26),
        (large_crop_probabilities(pixels, 64), 64),
    ):
        assert probabilities.shape == (120, 140)
        assert not probabilities[: size // 2].any()
        corners = draw_corners(probabilities, size, 200, random)
        assert (corners % 2 == 0).all()
        assert (corners >= 0).all()
        assert (corners <= [120 - size, 140 - size]).all()
        assert ((corners[:, 1] <= 70) & (corners[:, 1] + size >= 70)).all()
        assert len(np.unique(corners[:, 0])) > 10


def test_corners_are_those_of_the_generator():
    uniform = np.full((50, 60), 1 / 3000)
    first, again = (draw_corners(uniform, 26, 5, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
