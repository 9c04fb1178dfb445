"""Spectra of quiet patches of pictures whose noise is known."""

from __future__ import annotations

import cv2
import numpy as np

from deflow_cli.metrics.noise.quiet_spectrum import positive, quiet_spectrum, with_colours_of
from deflow_cli.models.deflow.grain import opponent_basis
from tests.metrics.noise.test_local_levels import pictures

COLOURS = opponent_basis(3).numpy()[1:]


def test_the_spectrum_of_white_noise_is_its_variance():
    spectrum = quiet_spectrum(pictures([5.0], count=8, side=160))
    diagonal = np.einsum("yxaa->yx", spectrum).real / 3
    # the quietest quarter of patches, and a geometric mean, are a little below 25 plus the rounding's 1 / 12
    assert 18 < np.median(diagonal) < 25.1
    off_diagonal = np.abs(spectrum[..., 0, 1]).mean()
    assert off_diagonal < 6


def test_a_textured_image_hardly_moves_the_spectrum():
    images = pictures([5.0], count=8, side=160)
    textured = [*images, pictures([60.0], count=1, side=160)[0]]
    power = [float(np.einsum("yxaa->", quiet_spectrum(group)).real) for group in (images, textured)]
    assert power[1] < 2 * power[0]


def test_weak_noise_does_not_make_the_colours_of_the_spectrum_coarser():
    """Half of the images have a tenth of the noise, of which only the coarse part is left, as by JPEG."""
    fine = pictures([5.0], count=8, side=160)
    coarse = [cv2.GaussianBlur(image, (0, 0), 2.0) for image in pictures([3.0], count=8, side=160)]
    share = []  # of the power of colour differences that is above a quarter of a cycle per pixel
    for by_level in (False, True):
        spectrum = quiet_spectrum([*fine, *coarse], by_level)
        power = np.einsum("ia,yxab,ib->yx", COLOURS, spectrum, COLOURS).real
        high = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)) > 0.25
        share.append(power[high].sum() / power.sum())
    assert share[1] > 0.7 > 0.6 > share[0]  # of white noise 0.80


def test_positive_keeps_what_is_positive():
    matrix = np.zeros((2, 2, 3, 3), dtype=complex)
    matrix[:] = np.diag([4.0, 1.0, -2.0])
    values = np.linalg.eigvalsh(positive(matrix))
    assert np.allclose(values[..., 1:], [1.0, 4.0])
    assert np.all(values[..., 0] > 0)


def test_the_colours_are_corrected_by_what_was_done_to_the_samples():
    """Samples of white noise came out blurred in their colours: the spectrum is raised by what was lost."""
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    basis = opponent_basis(3).double().numpy()
    white = np.tile(np.eye(3, dtype=complex), (64, 64, 1, 1))
    lost = np.stack([np.ones_like(frequency), *2 * [np.exp(-4 * frequency)]], -1)
    blurred = np.einsum("ia,yxi,ib->yxab", basis, lost, basis).astype(complex)
    corrected = with_colours_of(white, white, blurred)
    power = np.einsum("ia,yxab,ib->yxi", basis, corrected, basis).real
    assert np.allclose(power[..., 0], 1)
    ratio = power[..., 1] * lost[..., 1]  # constant, where the correction is the inverse of the loss
    inner = (frequency > 0.05) & (frequency < 0.35)
    assert ratio[inner].std() / ratio[inner].mean() < 0.08
    assert lost[..., 1][inner].std() / lost[..., 1][inner].mean() > 0.3
