"""Residual statistics: how like the real noise is a synthetic one, when the clean picture is known.

All take residuals r = y - x, float64, H x W x 3, of pictures in [0, 1] that were quantised to 8 bits, so
every value is a multiple of 1/255. None of the distances is zero between two draws of the same noise:
print a real-against-real floor beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from deflow_cli.arrays import Array, Pixels
from deflow_cli.errors import DataError
from deflow_cli.metrics.filters import LUMA

SPECTRUM_BINS = 64
LAGS = 4
MOST_DROPPED = 0.5


def residual_of(clean: Pixels, noisy: Pixels) -> Array:
    """r = (y - x) / 255 of two pictures uint8 H x W x 3, float64. Raises DataError unless they match."""
    for name, pixels in (("clean", clean), ("noisy", noisy)):
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise DataError(f"the {name} picture must be uint8 H x W x 3, got {pixels.dtype} {pixels.shape}")
    if clean.shape != noisy.shape:
        raise DataError(f"the clean picture is {clean.shape}, its degradation {noisy.shape}")
    return (noisy.astype(np.float64) - clean) / 255.0


# ------------------------------------------------------------------ histograms


def level_histogram(residual: Array) -> NDArray[np.int64]:
    """Counts of r * 255 rounded to whole levels -255..255, all channels together; index 255 is zero."""
    levels = np.rint(residual * 255.0).astype(np.int64).ravel() + 255
    return np.bincount(np.clip(levels, 0, 510), minlength=511)


def aligned_bins(counts: NDArray[np.int64], bins: int = 64, limit: float = 0.1) -> NDArray[np.int64]:
    """Pool whole levels into at most ``bins`` equal bins on [-limit, limit] plus two overflow bins.

    With L = floor(255 limit) whole levels on either side of zero, a bin holds w levels, w the smallest
    odd number with (2L + 1) / w <= bins; its edges lie halfway between levels, at (w (j +- 1/2)) / 255
    for whole j, so that no bin holds more levels than another and zero is the middle of one. At the
    default (64, 0.1), L = 25 and w = 1: 51 bins with edges at (k +- 1/2) / 255 for k = -25..25, and the
    two overflows.
    """
    reach = int(np.floor(255.0 * limit + 1e-9))
    width = next(w for w in range(1, 2 * reach + 3, 2) if (2 * reach + 1) <= bins * w)
    half = (reach - (width - 1) // 2) // width
    reach = half * width + (width - 1) // 2
    inside = counts[255 - reach : 256 + reach].reshape(2 * half + 1, width).sum(axis=1)
    return np.concatenate([[counts[: 255 - reach].sum()], inside, [counts[256 + reach :].sum()]])


def plain_bins(counts: NDArray[np.int64], bins: int = 64, limit: float = 0.1) -> NDArray[np.int64]:
    """KLD-NeCA's bins as defined: ``bins`` equal ones on [-limit, limit] and two overflow bins."""
    edges = np.concatenate([[-np.inf], np.linspace(-limit, limit, bins + 1), [np.inf]])
    return np.histogram(np.arange(-255, 256) / 255.0, edges, weights=counts)[0].astype(np.int64)


def kl_divergence(real: NDArray[Any], fake: NDArray[Any]) -> float:
    """Forward KL(real, fake) in nats of two histograms of counts; bins empty in either are dropped.

    Both are normalised before dropping. Infinite where bins that hold over `MOST_DROPPED` of the real counts
    are empty in the fake, as they are of a picture without noise: the rest of the sum can be below zero.
    """
    p, q = real / max(real.sum(), 1), fake / max(fake.sum(), 1)
    kept = (p > 0) & (q > 0)
    if not kept.any() or p[q == 0].sum() > MOST_DROPPED:
        return float("inf")
    return float(np.sum(p[kept] * np.log(p[kept] / q[kept])))


def residual_kl_naf(real: NDArray[np.int64], fake: NDArray[np.int64]) -> float:
    """KLD-NAF of two level histograms: forward KL in 256 equal bins on [-1, 1], empty ones dropped."""
    values = np.arange(-255, 256) / 255.0
    binned = [np.histogram(values, 256, (-1.0, 1.0), weights=counts)[0] for counts in (real, fake)]
    return kl_divergence(binned[0], binned[1])


def sum_histograms(residuals: Iterable[Array]) -> NDArray[np.int64]:
    total = np.zeros(511, dtype=np.int64)
    for residual in residuals:
        total += level_histogram(residual)
    return total


# ------------------------------------------------------------------ second order


def autocovariance(residual: Array, lags: int = LAGS) -> Array:
    """Mean product at every displacement up to ``lags``, channel means removed: C x (2 lags+1) x (2 lags+1).

    Each lag is divided by its own number of pairs. [c, lags + dy, lags + dx] is the covariance at (dy, dx).
    """
    height, width, channels = residual.shape
    if min(height, width) <= lags:
        raise DataError(f"a residual of {width}x{height} is too small for {lags} lags")
    centred = np.ascontiguousarray((residual - residual.mean(axis=(0, 1))).transpose(2, 0, 1))
    result = np.empty((channels, 2 * lags + 1, 2 * lags + 1))
    for dy in range(lags + 1):
        for dx in range(-lags, lags + 1):
            if dy == 0 and dx < 0:
                continue
            here = centred[:, dy:, max(dx, 0) : width + min(dx, 0)]
            there = centred[:, : height - dy, max(-dx, 0) : width - max(dx, 0)]
            value = np.einsum("chw,chw->c", here, there) / (here.shape[1] * here.shape[2])
            result[:, lags + dy, lags + dx] = value
            result[:, lags - dy, lags - dx] = value
    return result


def normalised(covariance: Array) -> Array:
    """Autocovariance divided by its value at lag zero, per channel; zero where there is no variance."""
    lags = covariance.shape[-1] // 2
    variance = covariance[..., lags : lags + 1, lags : lags + 1]
    return covariance / np.where(variance > 0, variance, 1.0)


def autocorrelation(residuals: Sequence[Array], lags: int = LAGS) -> Array:
    """Normalised 2-D autocorrelation per channel, of covariances averaged over the set: C x 9 x 9."""
    return normalised(np.mean([autocovariance(residual, lags) for residual in residuals], axis=0))


def acf_error(real: Array, fake: Array) -> float:
    """RMS difference of two autocorrelations over channels and all (2 lags + 1)^2 lags, lag zero too."""
    return float(np.sqrt(np.mean((real - fake) ** 2)))


def radial_psd(residual: Array, bins: int = SPECTRUM_BINS) -> Array:
    """Radial power spectrum, C x ``bins`` on 0..0.5 cycles per pixel; white noise gives its variance.

    Mean removed, Hann window on both axes, |FFT|^2 over the window's energy; frequencies beyond 0.5 (the
    corners) are left out. Bins without a frequency (small pictures) are NaN.
    """
    height, width, channels = residual.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    centred = (residual - residual.mean(axis=(0, 1))) * window[..., None]
    power = np.abs(np.fft.rfft2(centred, axes=(0, 1))) ** 2 / np.sum(window**2)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    weight = np.full(radius.shape, 2.0)  # rfft keeps one of each conjugate pair
    weight[:, 0] = 1.0
    if width % 2 == 0:
        weight[:, -1] = 1.0
    inside = radius <= 0.5
    index = np.minimum((radius[inside] * 2 * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, weight[inside], bins)
    with np.errstate(invalid="ignore"):
        return np.stack(
            [np.bincount(index, (weight * power[..., c])[inside], bins) / count for c in range(channels)]
        )


def decibel(power: Array) -> Array:
    """10 log10 of a power relative to 1/255 squared, floored at -60 dB."""
    return 10.0 * np.log10(np.maximum(power * 255.0**2, 1e-6))


def psd_error_db(real: Array, fake: Array) -> float:
    """Mean absolute difference in dB of two spectra over channels and bins; level counts, not shape alone."""
    return float(np.nanmean(np.abs(real - fake)))


# ------------------------------------------------------------------ chance


@dataclass(frozen=True)
class Fluctuation:
    """What tells how far a residual H x W x C correlates by chance.

    ``covariance``: C(C+1)/2 x lags x lags, of each pair of channels i <= j, lags up to a reach. ``trace``:
    total variance at lag zero. ``loudness``: local energy, H x W.
    """

    covariance: Array
    trace: float
    loudness: Array

    @classmethod
    def of(cls, residual: Array, reach: int = 12) -> Fluctuation:
        """Measure a residual H x W x C, circularly."""
        height, width, channels = residual.shape
        spans = [np.r_[0 : min(reach, n // 2) + 1, -min(reach, (n - 1) // 2) : 0] for n in (height, width)]
        planes = np.moveaxis(residual - residual.mean(axis=(0, 1)), 2, 0)
        spectrum = scipy.fft.rfft2(planes)
        rows, columns = np.triu_indices(channels)
        cross = scipy.fft.irfft2(spectrum[rows] * spectrum[columns].conj(), (height, width))
        covariance = cross[:, spans[0][:, None], spans[1]] / (height * width)
        energy = np.ascontiguousarray((residual**2).sum(axis=2))
        loudness = cv2.blur(energy, (7, 7), borderType=cv2.BORDER_REFLECT_101)
        trace = float(covariance[rows == columns, 0, 0].sum())
        return cls(covariance, trace, loudness.astype(np.float64, copy=False))


def chance_variance(first: Fluctuation, second: Fluctuation) -> float:
    """Variance of the correlation, over all pixels and channels, of two independent residuals.

    sum over lags and channel pairs of C1_ij(l) C2_ij(l) / (N tr C1(0) tr C2(0)), N pixels of their common
    part: (sum of rho^2) / N in one channel (Bartlett, 1946). Where loud regions coincide there are fewer
    pixels that count: times mean(v1 v2) / (mean v1 mean v2) of the local variances.
    """
    if min(first.trace, second.trace) <= 0:
        return 0.0
    height, width = (min(a, b) for a, b in zip(first.loudness.shape, second.loudness.shape, strict=True))
    loud = [side.loudness[:height, :width] for side in (first, second)]
    overlap = np.mean(loud[0] * loud[1]) / (np.mean(loud[0]) * np.mean(loud[1]))
    products = first.covariance * second.covariance
    # a pair of unlike channels stands for both of its orders, at lags l and -l
    channels = int(np.sqrt(2 * len(products)))
    twice = np.where(np.equal(*np.triu_indices(channels)), 1.0, 2.0)
    shared = max(float(np.sum(products.sum(axis=(1, 2)) * twice)), 0.0) / (first.trace * second.trace)
    return float(shared * overlap) / (height * width)


# ------------------------------------------------------------------ pictures


def luma(image: Array) -> Array:
    return image @ LUMA


def low_pass_psnr(first: Array, second: Array, sigma: float = 8.0) -> float:
    """PSNR in dB, peak 1, of two pictures H x W x 3 in [0, 1] after a Gaussian low-pass, reflected border.

    Says whether content was kept: fine noise vanishes under the filter. Higher is better, infinite when
    equal.
    """
    difference = cv2.GaussianBlur(first - second, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    error = float(np.mean(difference**2))
    return float("inf") if error == 0 else -10.0 * float(np.log10(error))


def local_variance(grey: Array) -> Array:
    """Variance of a plane H x W in the 7 x 7 window about each pixel, reflected border; 0 at least."""
    mean = cv2.blur(grey, (7, 7), borderType=cv2.BORDER_REFLECT_101)
    square = cv2.blur(grey**2, (7, 7), borderType=cv2.BORDER_REFLECT_101)
    return np.maximum(square - mean**2, 0.0)


def region_masks(clean: Array) -> dict[str, NDArray[np.bool_]]:
    """Flat (std of luma in 7 x 7 below 2/255), dark (luma below 0.25), bright (above 0.7) pixels, H x W."""
    grey = luma(clean)
    flat = local_variance(grey) < (2.0 / 255.0) ** 2
    return {"flat": flat, "dark": grey < 0.25, "bright": grey > 0.7}
