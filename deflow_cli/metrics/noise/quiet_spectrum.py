"""The spectrum of noise in an image's quietest patches, where scenes have least of their own.

It serves to draw noise like that of degraded images without pairs: what quiet patches of degraded images have
in excess of clean ones'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Array, Pixels
from deflow_cli.models.deflow.grain import opponent_basis

QUIET_SHARE = 0.25  # of an image's patches
QUIET_PATCH = 64  # px
_LEAST_POWER = 1e-3  # grey levels squared
_FINE = 0.15  # cycles per pixel, above which an image's level is taken
_RINGS = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4)  # cycles per pixel, between rings of frequency
_MOST_RATIO = 4.0  # of powers, in a correction

Spectrum = NDArray[np.complex128]
"""Cross-spectra of the channels, 64 x 64 x 3 x 3 in FFT order."""


def quiet_spectrum(images: Sequence[Pixels], by_level: bool = False) -> Spectrum:
    """Cross-spectra of the quietest quarter of each image's patches, geometric mean over the images.

    64 x 64 x 3 x 3 in FFT order. Patches of 64 x 64 every 32 pixels, without their mean, under a Hann window,
    in grey levels squared; white noise of variance v has v times the identity. The geometric mean of positive
    matrices is exp of the mean of their logarithms (log-Euclidean mean): an image that is all texture counts
    no more than others. Images are at least 64 x 64.

    by_level: in the colour differences' power an image counts by its own level in them. Compression and
    rounding leave only the coarse part of weak noise, of which there must not be more than there is in the
    noise of all images.
    """
    spectra = [_quiet_spectrum(image) for image in images]
    logarithms = [_logarithm(each) for each in spectra]
    mean = _exponential(cast(Spectrum, sum(logarithms)) / len(images))
    if by_level:
        fine = np.hypot(np.fft.fftfreq(QUIET_PATCH)[:, None], np.fft.fftfreq(QUIET_PATCH)) > _FINE
        levels = [float(np.einsum("kaa->k", each[fine][:, 1:, 1:]).real.mean()) for each in spectra]
        levels = [max(level, _LEAST_POWER) for level in levels]
        total = sum(level * each for level, each in zip(levels, logarithms, strict=True))
        stronger = _exponential(cast(Spectrum, total) / sum(levels))
        power, own = (np.einsum("yxaa->yxa", each).real for each in (stronger, mean))
        ratio = np.sqrt(power / own)
        ratio[..., 0] = 1.0
        mean = mean * ratio[..., :, None] * ratio[..., None, :]
    basis = opponent_basis(3).double().numpy()
    return cast(Spectrum, np.einsum("ia,yxij,jb->yxab", basis, mean, basis))


def _quiet_spectrum(image: Pixels) -> Spectrum:
    """Cross-spectra of the opponent channels in an image's quietest patches."""
    hann = np.hanning(QUIET_PATCH + 1)[:-1]
    window = np.outer(hann, hann)
    views = np.lib.stride_tricks.sliding_window_view(image, (QUIET_PATCH, QUIET_PATCH), axis=(0, 1))
    patches = views[:: QUIET_PATCH // 2, :: QUIET_PATCH // 2].reshape(-1, 3, QUIET_PATCH, QUIET_PATCH)
    basis = opponent_basis(3).double().numpy()
    patches = np.einsum("ij,njyx->niyx", basis, patches.astype(np.float64))
    mean = (patches * window).sum((-1, -2), keepdims=True) / window.sum()
    patches = (patches - mean) * window
    order = np.argsort((patches**2).sum((1, 2, 3)))
    chosen = order[: max(4, round(QUIET_SHARE * len(order)))]
    waves = np.fft.fft2(patches[chosen]) / np.sqrt((window**2).sum())
    return smoothed_spectrum(np.einsum("nayx,nbyx->yxab", waves, waves.conj()) / len(chosen))


def smoothed_spectrum(spectrum: Spectrum) -> Spectrum:
    """Averaged with the neighbouring frequencies, binomial weights 1 2 1."""
    for axis in (0, 1):
        spectrum = 0.5 * spectrum + 0.25 * (np.roll(spectrum, 1, axis) + np.roll(spectrum, -1, axis))
    return spectrum


def positive(spectrum: Spectrum, least: float = 1e-5) -> Spectrum:
    """The nearest positive matrices: eigenvalues are at least ``least`` of the largest of all."""
    values, vectors = np.linalg.eigh(spectrum)
    return _from_eigen(np.maximum(values, least * values.max()), vectors)


def with_colours_of(spectrum: Spectrum, real: Spectrum, ours: Spectrum) -> Spectrum:
    """A spectrum whose colour differences are corrected by how those of two others differ in shape.

    real, ours: of the degraded images and of samples whose noise has the spectrum, as ``quiet_spectrum`` sees
    them. The power of both colour differences at a distance from frequency 0 is multiplied by the ratio of
    real to ours there, by at most four.
    """
    basis = opponent_basis(3).double().numpy()
    axis = np.fft.fftfreq(len(spectrum))
    distance = np.hypot(axis[:, None], axis)
    ring = np.digitize(distance, _RINGS)
    powers = [
        np.bincount(ring.ravel(), np.einsum("ia,yxab,ib->yx", basis[1:], each, basis[1:]).real.ravel())
        for each in (real, ours)
    ]
    logs = np.log(powers[0] / powers[0].sum()) - np.log(powers[1] / powers[1].sum())
    centres = np.bincount(ring.ravel(), distance.ravel()) / np.bincount(ring.ravel())
    most = np.log(_MOST_RATIO)
    ratio = np.exp(np.clip(np.interp(distance, centres, logs), -most, most))
    factor = np.ones((*ratio.shape, 3))
    factor[..., 1:] = np.sqrt(ratio)[..., None]
    scale = np.einsum("ia,yxi,ib->yxab", basis, factor, basis)
    return cast(Spectrum, scale @ spectrum @ scale)


def _logarithm(spectrum: Spectrum) -> Spectrum:
    values, vectors = np.linalg.eigh(spectrum)
    return _from_eigen(np.log(np.maximum(values, _LEAST_POWER)), vectors)


def _exponential(spectrum: Spectrum) -> Spectrum:
    values, vectors = np.linalg.eigh(spectrum)
    return _from_eigen(np.exp(values), vectors)


def _from_eigen(values: Array, vectors: Spectrum) -> Spectrum:
    return cast(Spectrum, np.einsum("...ab,...b,...cb->...ac", vectors, values, vectors.conj()))
