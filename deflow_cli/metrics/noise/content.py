"""Content: what a degradation does to the picture itself, beside the noise it adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Array, Pixels
from deflow_cli.errors import DataError
from deflow_cli.metrics.noise.residual import low_pass_psnr, luma, residual_of

BANDS = ((1 / 32, 1 / 16), (1 / 16, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2))
"""Octaves of radial frequency in cycles per pixel, coarse to fine."""
ROUND_OFF = 1e-12
"""Energy of a flat picture's spectrum; one pixel that differs by one level has 1e-5."""


@dataclass(frozen=True)
class Content:
    """What became of the clean pictures, over a set of N pairs.

    ``low_pass_psnr``, ``low_pass_psnr_least``: mean over pictures and least PSNR in dB of the pictures
    blurred by sigma 8, where noise vanishes; infinite when equal, higher is better.
    ``colour_shift``, ``colour_spread``: mean over pictures of the mean of y - x per channel, and its std
    over pictures, in grey levels. ``gain``: share of the clean picture's luma detail that survives in each
    of the octaves `BANDS`, coarse to fine; 1 for added noise, below 1 in the last ones for blur, above for
    sharpening. ``gain_error``: its standard error.
    """

    images: int
    low_pass_psnr: float
    low_pass_psnr_least: float
    colour_shift: Array
    colour_spread: Array
    gain: Array
    gain_error: Array


def measure_content(cleans: Sequence[Pixels], noisies: Sequence[Pixels]) -> Content:
    """Measure pairs of pictures, uint8 H x W x 3. DataError when there is none or they differ in shape."""
    if not cleans or len(cleans) != len(noisies):
        raise DataError(f"content needs pairs of pictures, got {len(cleans)} clean and {len(noisies)} noisy")
    shifts, low, rows = [], [], []
    for clean, noisy in zip(cleans, noisies, strict=True):
        residual = residual_of(clean, noisy)
        shifts.append(residual.mean(axis=(0, 1)) * 255.0)
        low.append(low_pass_psnr(clean / 255.0, noisy / 255.0))
        rows.append(_band_sums(luma(clean / 255.0), luma(noisy / 255.0)))
    gain, error = _pool(np.stack(rows))
    return Content(
        images=len(cleans),
        low_pass_psnr=float(np.mean(low)),
        low_pass_psnr_least=float(np.min(low)),
        colour_shift=np.mean(shifts, axis=0),
        colour_spread=np.std(shifts, axis=0, ddof=1) if len(shifts) > 1 else np.zeros(3),
        gain=gain,
        gain_error=error,
    )


def _pool(sums: Array) -> tuple[Array, Array]:
    """Gain per octave from N x 3 x 4 sums over pictures, and its standard error; NaN without energy.

    The error is the larger of what the noise makes and of the jackknife over pictures, which also sees
    that one picture is blurred more than another.
    """
    total = sums.sum(axis=0)
    energy = np.where(total[0] > ROUND_OFF, total[0], np.nan)
    # twice: the window ties neighbouring frequencies, so that fewer are independent
    error = np.sqrt(2.0 * total[2]) / energy
    count = len(sums)
    if count > 1:
        rest = total[:2] - sums[:, :2]
        left_out = rest[:, 1] / np.where(rest[:, 0] > ROUND_OFF, rest[:, 0], np.nan)
        spread = np.sqrt((count - 1) / count * np.sum((left_out - left_out.mean(axis=0)) ** 2, axis=0))
        error = np.fmax(error, spread)
    return total[1] / energy, error


def _band_sums(clean: Array, noisy: Array) -> Array:
    """Sums over each octave's frequencies of |X|^2, Re Y X* and |X|^2 |Y - g X|^2: 3 x 4.

    X, Y: Hann-windowed spectra of luma, means removed; g: this picture's own gain in the band.
    """
    height, width = clean.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    first, second = (np.fft.rfft2((plane - plane.mean()) * window) for plane in (clean, noisy))
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    power, cross = np.abs(first) ** 2, (second * first.conj()).real
    result = np.zeros((3, len(BANDS)))
    for band, (low, high) in enumerate(BANDS):
        inside = (radius >= low) & (radius < high)
        energy, product = power[inside].sum(), cross[inside].sum()
        rest = np.abs(second[inside] - product / max(energy, 1e-24) * first[inside]) ** 2
        # half: only the noise in phase with X disturbs the regression
        result[:, band] = energy, product, 0.5 * np.sum(power[inside] * rest)
    return result


def without_content(residual: Array, clean: Array) -> Array:
    """Residual less what a linear filter of the clean picture explains: what is left is noise.

    Least squares of r on the clean channels (H x W x 3 in [0, 1]), their blurs of sigma 0.7, 1.4, 3 and 8,
    the squares of the channels, and the first and second differences of luma: blur, sharpening, a small
    displacement, and changes of tone, contrast and saturation vanish, while noise keeps all but some 30
    of its dimensions. residual: H x W x C, one or several residuals. Returns the same, mean zero.
    """
    height, width = residual.shape[:2]
    planes: list[NDArray[Any]] = [clean, clean**2]
    for sigma in (0.7, 1.4, 3.0, 8.0):
        planes.append(cv2.GaussianBlur(clean, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101))
    grey = np.ascontiguousarray(luma(clean))
    for order in ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2)):
        slope = cv2.Sobel(grey, cv2.CV_64F, *order, ksize=3, borderType=cv2.BORDER_REFLECT_101)
        planes.append(slope[..., None])
    features = np.concatenate(planes, axis=2).reshape(height * width, -1).T
    features = np.ascontiguousarray(features - features.mean(axis=1, keepdims=True))
    target = (residual - residual.mean(axis=(0, 1))).reshape(height * width, -1)
    # einsum, not matmul: BLAS starts threads for these narrow products, and is a hundred times slower for it
    gram = np.einsum("in,jn->ij", features, features)
    gram[np.diag_indices_from(gram)] += 1e-9 * np.trace(gram) / len(gram) + 1e-12
    solution = np.linalg.solve(gram, np.einsum("in,nc->ic", features, target))
    return (target - np.einsum("in,ic->nc", features, solution)).reshape(residual.shape)
