"""The blur of pictures whose blur is known."""

from __future__ import annotations

import numpy as np
import pytest

from deflow_cli.data.blur.kernels import BlurKernel, blur_and_downsample
from deflow_cli.data.blur.shapes import bicubic_kernel, gaussian_kernel, kernel_covariance
from deflow_cli.data.blur.spectrum import blur_from_spectrum, luma_spectrum
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.photos import packaged_photos
from deflow_cli.errors import DataError

COVARIANCES = [np.array([[2.0, -1.2], [-1.2, 3.5]]), np.array([[4.0, 1.0], [1.0, 3.0]])]


def small_picture(index, covariance):
    """A packaged photograph at half its size, blurred on the way, and the kernel."""
    kernel = gaussian_kernel(covariance, 17, 0.5)
    photo = read_rgb8(packaged_photos()[0][index])
    return blur_and_downsample(photo, BlurKernel("k", "", kernel), 2, sampling="direct"), kernel


def relative_error(covariance, truth):
    return np.linalg.norm(covariance - truth) / np.linalg.norm(truth)


@pytest.mark.parametrize("covariance", COVARIANCES, ids=["slanted", "wide"])
def test_known_blurs_are_recovered(covariance):
    errors = []
    for index in range(6):
        picture, kernel = small_picture(index, covariance)
        errors.append(relative_error(4 * blur_from_spectrum(picture).covariance, kernel_covariance(kernel)))
    assert np.median(errors) < 0.2
    null = relative_error(kernel_covariance(bicubic_kernel(17)), kernel_covariance(kernel))
    assert max(errors) < null


def test_noise_is_told_from_blur():
    picture, kernel = small_picture(0, COVARIANCES[0])
    noise = np.random.default_rng(0).normal(0, 4, picture.shape[:2])[..., None]
    noisy = np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)
    found = blur_from_spectrum(noisy)
    assert 255 * found.noise == pytest.approx(4, rel=0.1)
    assert relative_error(4 * found.covariance, kernel_covariance(kernel)) < 0.35


def test_turning_the_picture_turns_the_blur():
    picture, _ = small_picture(1, COVARIANCES[0])
    upright = blur_from_spectrum(picture).covariance
    turned = blur_from_spectrum(np.ascontiguousarray(np.rot90(picture))).covariance
    np.testing.assert_allclose(
        turned, [[upright[1, 1], -upright[0, 1]], [-upright[0, 1], upright[0, 0]]], atol=0.1
    )


def test_power_of_white_noise_is_its_variance():
    noise = np.random.default_rng(0).normal(128, 20, (256, 256))
    grey = np.clip(np.rint(noise), 0, 255).astype(np.uint8)[..., None].repeat(3, -1)
    spectrum = luma_spectrum(grey)
    assert float(spectrum[8:25].mean()) == pytest.approx((20 / 255) ** 2, rel=0.1)


def test_flat_and_small_pictures_are_refused():
    with pytest.raises(DataError, match="no detail"):
        blur_from_spectrum(np.full((100, 100, 3), 90, np.uint8))
    with pytest.raises(DataError, match="20x100 is smaller"):
        blur_from_spectrum(np.zeros((100, 20, 3), np.uint8))
