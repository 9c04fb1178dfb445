"""Repetition: found where it was made, and not where noise is honest."""

import cv2
import numpy as np
import pytest

from deflow_cli.errors import DataError
from deflow_cli.metrics.noise.repetition import measure_repetition
from deflow_cli.metrics.noise.residual import residual_of
from tests.metrics.distances.generators import (
    HONEST,
    WRONG,
    field,
    level,
    picture,
    pictures,
    right,
    to_pixels,
)


def measure(law, cleans, seed=0):
    residuals = [residual_of(c, law(c, np.random.default_rng([seed, i]))) for i, c in enumerate(cleans)]
    return measure_repetition(residuals, cleans)


@pytest.mark.parametrize("name", HONEST)
def test_honest_noise_passes(name):
    assert measure(HONEST[name], pictures(5, 112)).passes


def test_honest_noise_passes_without_its_clean_pictures():
    cleans = pictures(4, 96)
    assert measure_repetition([residual_of(c, right(c, np.random.default_rng(1))) for c in cleans[:1]]).passes


@pytest.mark.parametrize("name", ["tiled", "one field", "pool of patches"])
def test_repetition_is_caught(name):
    result = measure(WRONG[name].law, pictures(5, 112))
    assert not result.passes
    assert result.worst.value > 0.4


def test_a_tile_is_found_at_its_period():
    peak = measure(WRONG["tiled"].law, pictures(2, 112)).within
    assert peak.down % 32 == 0
    assert peak.right % 32 == 0
    assert peak.first == peak.second


def test_one_field_is_found_at_its_displacement():
    noise = field((120, 120), np.random.default_rng(0))
    cleans = pictures(2, 96)
    noisies = [
        to_pixels(cleans[0] + level(cleans[0]) * noise[:96, :96]),
        to_pixels(cleans[1] + level(cleans[1]) * noise[5:101, 17:113]),
    ]
    result = measure_repetition([residual_of(*pair) for pair in zip(cleans, noisies, strict=True)], cleans)
    assert result.across is not None
    # what lies at (y + 5, x + 17) of the first lies at (y, x) of the second
    assert (result.across.down, result.across.right) == (-5, -17)
    assert result.across.value > 0.9
    assert result.within.excess <= 1


def test_a_repeated_clean_picture_does_not_count():
    stripes = np.tile(np.where(np.arange(112) % 16 < 8, 90, 150)[None, :, None], (112, 1, 3)).astype(np.uint8)

    def blurred(clean, rng):
        soft = cv2.GaussianBlur(clean.astype(np.float64), (0, 0), 1.0)
        return to_pixels(soft + level(clean) * field(clean.shape, rng))

    residual = residual_of(stripes, blurred(stripes, np.random.default_rng(0)))
    assert not measure_repetition([residual]).passes  # the leftover of the stripes repeats
    assert measure_repetition([residual], [stripes]).passes


def test_amplitude_that_repeats_does_not_count():
    loud = np.where((np.indices((112, 112)) // 16).sum(axis=0) % 2, 3.0, 20.0)[..., None]
    noise = loud * field((112, 112), np.random.default_rng(0)) / 255.0
    assert measure_repetition([noise]).passes


def test_pictures_of_unlike_sizes_are_compared():
    cleans = [picture(0, 80), picture(1, 112)]
    assert measure(right, cleans).passes
    assert not measure(WRONG["one field"].law, cleans).passes


def test_one_picture_has_nothing_across_and_errors_are_named():
    assert measure(right, pictures(1, 96)).across is None
    with pytest.raises(DataError, match="no residual"):
        measure_repetition([])
    with pytest.raises(DataError, match="16x40"):
        measure_repetition([np.zeros((40, 16, 3))])


def test_no_noise_is_no_repetition():
    result = measure_repetition([np.zeros((64, 64, 3))] * 2)
    assert result.passes
    assert result.worst.value == 0
