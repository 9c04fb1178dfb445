"""Kernels as shapes."""

from __future__ import annotations

import numpy as np
import pytest

from deflow_cli.data.blur.shapes import (
    bicubic_kernel,
    blur_width,
    centre_of_mass,
    centred_kernel,
    contrast_kept,
    drop_negligible,
    four_fold,
    gaussian_kernel,
    kernel_covariance,
)

COVARIANCE = np.array([[2.0, 0.9], [0.9, 3.0]])


def test_gaussian_has_the_covariance_asked_for():
    kernel = gaussian_kernel(COVARIANCE, 25, 0.5)
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(centre_of_mass(kernel), [12.5, 12.5], atol=1e-6)
    inner = 1 / 12  # of a pixel's square, over which it is averaged
    np.testing.assert_allclose(kernel_covariance(kernel), COVARIANCE + inner * np.eye(2), atol=5e-3)


@pytest.mark.parametrize(
    ("direction", "angle"), [((0, 1), 0), ((1, 0), 90), ((1, 1), 45), ((1, -1), 135)], ids=str
)
def test_angle_of_the_wide_axis(direction, angle):
    y, x = np.array(direction) / np.hypot(*direction)
    covariance = np.eye(2) + 3 * np.outer([y, x], [y, x])
    width = blur_width(covariance)
    assert (width.narrow, width.wide) == pytest.approx((1, 2))
    assert width.angle == pytest.approx(angle)


def test_contrast_of_a_gaussian():
    kernel = gaussian_kernel(np.diag([4.0, 1.0]), 25, 0.0)
    expected = np.exp(-2 * np.pi**2 * 0.1**2 * np.array([4.0, 1.0]))
    assert contrast_kept(kernel, 0.1, 0) == pytest.approx(expected[0], rel=0.03)
    assert contrast_kept(kernel, 0, 0.1) == pytest.approx(expected[1], rel=0.03)
    assert contrast_kept(kernel, 0, 0) == pytest.approx(1)


def test_clean_up_and_centring_of_a_kernel_of_thirteen():
    """13 x 13 becomes 17 x 17 with its centre of mass at 8.5, where down-sampling by 2 is aligned."""
    raw = np.roll(gaussian_kernel(COVARIANCE, 13, 0.0), 1, axis=0) - 1e-4
    clean = drop_negligible(raw)
    assert clean.sum() == pytest.approx(1)
    assert np.count_nonzero(clean) <= 60
    moved = centred_kernel(clean, 0.5)
    assert moved.shape == (17, 17)
    np.testing.assert_allclose(centre_of_mass(moved), [8.5, 8.5], atol=0.02)
    assert moved.sum() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(kernel_covariance(moved), kernel_covariance(clean), atol=0.06)


def test_bicubic_kernel_is_centred():
    kernel = bicubic_kernel(17)
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(centre_of_mass(kernel), [8.5, 8.5], atol=1e-9)


@pytest.mark.parametrize(("size", "large"), [(13, 25), (17, 33)])
def test_four_fold_kernel_is_down_sampling_twice(size, large):
    """Against correlation and every second pixel, done twice, away from the edges."""
    kernel = np.zeros((size, size))
    rim = (size - 7) // 2
    kernel[rim:-rim, rim:-rim] = np.random.default_rng(0).random((7, 7))  # narrow, so that nothing is cropped
    kernel /= kernel.sum()
    whole = four_fold(kernel)
    assert whole.shape == (large, large)
    assert whole.sum() == pytest.approx(1)
    image = np.random.default_rng(1).random((120, 120))
    half = correlate(image, kernel, step=2)
    twice = correlate(half, kernel, step=2)
    rim = size // 2  # cropped from the kernel, so that it begins so much later
    once = correlate(image[rim:, rim:], whole, step=4)
    shared = min(len(once), len(twice))
    np.testing.assert_allclose(once[:shared, :shared], twice[:shared, :shared], atol=1e-12)
    assert shared > 10


def correlate(image, kernel, step):
    windows = np.lib.stride_tricks.sliding_window_view(image, kernel.shape)[::step, ::step]
    return (windows * kernel).sum(axis=(2, 3))


def test_four_fold_kernel_is_aligned():
    """Its centre of mass lies 1.5 px beyond the middle, where down-sampling by 4 wants it."""
    whole = four_fold(gaussian_kernel(COVARIANCE / 2, 13, 0.5))
    np.testing.assert_allclose(centre_of_mass(whole), [13.5, 13.5], atol=1e-2)
