"""Content: gains, shifts and low-pass errors that are known."""

import cv2
import numpy as np
import pytest

from deflow_cli.errors import DataError
from deflow_cli.metrics.noise.content import measure_content, without_content
from deflow_cli.metrics.noise.residual import residual_of
from tests.metrics.distances.generators import WRONG, pictures, right, to_pixels


def gratings(size=128):
    """One sine per octave band, at 0.047, 0.094, 0.188 and 0.375 cycles per pixel."""
    x = np.arange(size)
    waves = sum(25 * np.sin(2 * np.pi * f * x) for f in (6 / 128, 12 / 128, 24 / 128, 48 / 128))
    return to_pixels(np.tile((128 + waves)[None, :, None], (size, 1, 3)))


def test_added_noise_keeps_all_detail():
    cleans = pictures(4)
    content = measure_content(cleans, [right(c, np.random.default_rng(i)) for i, c in enumerate(cleans)])
    assert (np.abs(content.gain - 1) < np.maximum(4 * content.gain_error, 0.01)).all()
    assert np.abs(content.colour_shift).max() < 0.3
    assert content.low_pass_psnr > 45
    assert content.low_pass_psnr_least <= content.low_pass_psnr
    assert content.images == 4


def test_gain_of_a_blur_is_its_transfer_function():
    clean = gratings()
    soft = cv2.GaussianBlur(clean.astype(np.float64), (15, 15), 1.0, borderType=cv2.BORDER_REFLECT_101)
    gain = measure_content([clean], [to_pixels(soft)]).gain
    frequency = np.array([6, 12, 24, 48]) / 128
    assert gain == pytest.approx(np.exp(-2 * (np.pi * frequency) ** 2), abs=0.01)


def test_gain_of_contrast_is_the_contrast():
    clean = gratings()
    assert measure_content([clean], [to_pixels(0.8 * clean + 30.0)]).gain == pytest.approx(0.8, abs=0.01)


def test_colour_shift_and_its_spread_are_grey_levels():
    clean = np.full((64, 64, 3), 100, np.uint8)
    content = measure_content([clean, clean], [clean + np.uint8(2), clean + np.array([4, 2, 0], np.uint8)])
    assert content.colour_shift == pytest.approx([3, 2, 1])
    assert content.colour_spread == pytest.approx([np.sqrt(2), 0, np.sqrt(2)])
    first = -20 * np.log10(2 / 255)
    second = -10 * np.log10((16 + 4) / 3 / 255**2)
    assert content.low_pass_psnr == pytest.approx((first + second) / 2)
    assert content.low_pass_psnr_least == pytest.approx(second)


def test_equal_pictures_are_infinite_and_flat_ones_have_no_gain():
    clean = np.full((64, 64, 3), 100, np.uint8)
    content = measure_content([clean], [clean])
    assert content.low_pass_psnr == float("inf")
    assert np.isnan(content.gain).all()


def test_error_of_the_gain_sees_unlike_pictures():
    cleans = pictures(6)
    law = WRONG["blurred content"].law
    noisies = [(right if i % 2 else law)(c, np.random.default_rng(i)) for i, c in enumerate(cleans)]
    mixed = measure_content(cleans, noisies)
    alike = measure_content(cleans, [law(c, np.random.default_rng(i)) for i, c in enumerate(cleans)])
    assert mixed.gain_error[3] > 3 * alike.gain_error[3]


def test_what_a_filter_explains_is_removed_and_noise_is_kept():
    clean = pictures(1)[0]
    rng = np.random.default_rng(0)
    soft = cv2.GaussianBlur(clean.astype(np.float64), (0, 0), 0.9, borderType=cv2.BORDER_REFLECT_101)
    toned = 255 * (soft / 255) ** 1.1 + np.array([4, 0, -6])
    change = (toned - clean) / 255.0
    left = without_content(change, clean / 255.0)
    assert np.mean(left**2) < 0.02 * np.mean((change - change.mean(axis=(0, 1))) ** 2)
    noise = residual_of(clean, right(clean, rng))
    kept = without_content(noise, clean / 255.0)
    assert np.mean(kept**2) == pytest.approx(np.var(noise, axis=(0, 1)).mean(), rel=0.01)
    assert np.abs(kept.mean(axis=(0, 1))).max() < 1e-12


def test_errors():
    clean = pictures(1)[0]
    with pytest.raises(DataError, match="1 clean and 0 noisy"):
        measure_content([clean], [])
    with pytest.raises(DataError, match="its degradation"):
        measure_content([clean], [clean[:-1]])
