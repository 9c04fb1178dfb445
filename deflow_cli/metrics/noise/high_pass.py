"""High-pass statistics: the noise of a picture without its partner, seen in flat patches above 0.1 cycles/px.

What is measured is the high-passed noise, on the real and the synthetic side alike: no figure is corrected
back to the noise itself. For white noise the filter keeps `WHITE_GAIN` = 0.943 of the std, correlates
neighbours slightly negatively and pulls the excess kurtosis to zero; low-frequency grain is mostly lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Array, Pixels
from deflow_cli.errors import DataError
from deflow_cli.metrics.filters import INTENSITY_BINS, high_pass
from deflow_cli.metrics.flat_patches import PatchGrid, choose, intensity_bins, patch_grid
from deflow_cli.metrics.noise.comparison import PAIRS
from deflow_cli.metrics.noise.residual import (
    LAGS,
    acf_error,
    aligned_bins,
    decibel,
    kl_divergence,
    level_histogram,
    normalised,
    psd_error_db,
)

FLAT_PATCH_SIDE = 24  # px of a flat patch: larger ones are flat too seldom
FLAT_PATCH_STRIDE = 12
FLAT_SPECTRUM_BINS = 12  # what a patch of 24 px resolves
_FEWEST_PATCHES = 3  # per intensity bin


@dataclass(frozen=True)
class UnpairedStatistics:
    """Statistics of high-passed flat patches of N pictures; leading N means one row per picture.

    ``patches`` N counts of patches; ``histograms`` N x 511 counts of levels -255..255; ``moments`` N x 5:
    values, and means of r, r^2, r^3, r^4; ``covariances`` N x 3 x 9 x 9 over +-4 lags; ``spectra``
    N x 3 x 12 radial power; ``channels`` N x 3 x 3 channel covariance; ``intensity`` N x 16 x 3 values, sum
    and sum of squares by mean luma of the patch. A picture without a flat patch has rows of zeros.
    """

    patches: NDArray[np.int64]
    histograms: NDArray[np.int64]
    moments: Array
    covariances: Array
    spectra: Array
    channels: Array
    intensity: Array

    @classmethod
    def of(cls, images: Iterable[Pixels]) -> UnpairedStatistics:
        """Measure pictures, uint8 H x W x 3, one in memory at a time.

        Raises DataError when there is none, or when none has an unclipped patch of 24 px.
        """
        found = [_candidates(image) for image in images]
        if not found:
            raise DataError("no picture to measure")
        chosen = choose([grid for grid, _ in found])
        if not any(len(rows) for rows in chosen):
            raise DataError(
                f"none of {len(found)} pictures has an unclipped patch of {FLAT_PATCH_SIDE} px",
                next_step="use larger pictures, or ones that are not clipped to black or white",
            )
        rows = [
            _measure(patches[kept], grid.luma[kept]) if len(kept) else _nothing()
            for (grid, patches), kept in zip(found, chosen, strict=True)
        ]
        return cls(*(np.stack(column) for column in zip(*rows, strict=True)))

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, rows: slice) -> UnpairedStatistics:
        """The statistics of some of the pictures, for halves of a set."""
        return self.take(np.arange(len(self))[rows])

    def take(self, rows: NDArray[np.int64]) -> UnpairedStatistics:
        """The statistics of the pictures of these indices."""
        return UnpairedStatistics(*(getattr(self, field.name)[rows] for field in fields(self)))

    def _mean(self, rows: Array) -> Array:
        """Over all patches, NaN without any."""
        if not self.patches.any():
            return np.full(rows.shape[1:], np.nan)
        return np.tensordot(self.patches / self.patches.sum(), rows, axes=1)

    @property
    def std(self) -> float:
        """Std of the high-passed patches on the [0, 1] scale, over all pictures."""
        return float(np.sqrt(self._mean(self.moments[:, 2])))

    @property
    def excess_kurtosis(self) -> float:
        """Pooled; pictures and brightnesses of unlike noise levels raise it."""
        square, fourth = self._mean(self.moments)[[2, 4]]
        return float(fourth / max(square**2, 1e-24)) - 3.0

    @property
    def image_kurtosis(self) -> float:
        """Mean over pictures of each one's excess kurtosis."""
        found = self.moments[self.patches > 0]
        if not len(found):
            return float("nan")
        return float(np.mean(found[:, 4] / np.maximum(found[:, 2] ** 2, 1e-24))) - 3.0

    @property
    def channel_correlation(self) -> Array:
        """Red-green, green-blue, red-blue correlation, pooled."""
        covariance = self._mean(self.channels)
        scale = np.sqrt(np.maximum(np.diag(covariance), 1e-24))
        return np.array([covariance[i, j] / (scale[i] * scale[j]) for i, j in PAIRS])

    @property
    def channel_std(self) -> Array:
        """Std of red, green and blue on the [0, 1] scale."""
        return np.sqrt(np.diag(self._mean(self.channels)))

    @property
    def autocorrelation(self) -> Array:
        """3 x 9 x 9: covariances averaged over patches, then normalised."""
        return normalised(self._mean(self.covariances))

    @property
    def psd_db(self) -> Array:
        """3 x 12 radial power spectrum on 0..0.5 cycles per pixel in dB over one grey level squared."""
        return decibel(self._mean(self.spectra))

    @property
    def noise_level(self) -> Array:
        """Std in each of 16 bins of the patch's mean luma, [0, 1] scale; NaN with fewer than 3 patches."""
        sums = self.intensity.sum(axis=0)
        variance = sums[:, 2] / np.maximum(sums[:, 0], 1.0)
        return np.where(sums[:, 0] >= _FEWEST_PATCHES * 3 * FLAT_PATCH_SIDE**2, np.sqrt(variance), np.nan)


def _candidates(image: Pixels) -> tuple[PatchGrid, NDArray[np.float16]]:
    """A picture's flattest patches, and what the filter leaves of them, n x S x S x 3."""
    residual = high_pass(image)
    grid = patch_grid(image, residual, FLAT_PATCH_SIDE, FLAT_PATCH_STRIDE)
    # A set's patches are all in memory at once.
    patches = np.empty((len(grid), FLAT_PATCH_SIDE, FLAT_PATCH_SIDE, 3), dtype=np.float16)
    for i, (y, x) in enumerate(grid.corners):
        patches[i] = residual[y : y + FLAT_PATCH_SIDE, x : x + FLAT_PATCH_SIDE]
    return grid, patches


def _measure(kept: NDArray[np.float16], luma: Array) -> tuple[Any, ...]:
    patches = kept.astype(np.float64)
    square = patches**2
    bins = intensity_bins(luma)
    values = patches[0].size
    flat = patches.reshape(-1, 3)
    return (
        np.int64(len(patches)),
        level_histogram(patches),
        np.array([patches.size, *(np.mean(p) for p in (patches, square, square * patches, square**2))]),
        _autocovariance(patches),
        _radial_psd(patches),
        flat.T @ flat / len(flat),
        np.stack(
            [
                values * np.bincount(bins, minlength=INTENSITY_BINS),
                np.bincount(bins, patches.sum(axis=(1, 2, 3)), INTENSITY_BINS),
                np.bincount(bins, square.sum(axis=(1, 2, 3)), INTENSITY_BINS),
            ],
            axis=1,
        ),
    )


def _nothing() -> tuple[Any, ...]:
    window = 2 * LAGS + 1
    return (
        np.int64(0),
        np.zeros(511, dtype=np.int64),
        np.zeros(5),
        np.zeros((3, window, window)),
        np.zeros((3, FLAT_SPECTRUM_BINS)),
        np.zeros((3, 3)),
        np.zeros((INTENSITY_BINS, 3)),
    )


def _autocovariance(patches: Array) -> Array:
    """Mean product at every displacement up to 4 px inside a patch: n x S x S x 3 -> 3 x 9 x 9.

    No mean is removed: the filter has removed it.
    """
    side = patches.shape[1]
    spectrum = np.fft.rfft2(patches, (side + LAGS, side + LAGS), axes=(1, 2))
    sums = np.fft.irfft2(np.mean(np.abs(spectrum) ** 2, axis=0), (side + LAGS,) * 2, axes=(0, 1))
    lags = np.arange(-LAGS, LAGS + 1)
    pairs = side - np.abs(lags)
    return (sums[np.ix_(lags, lags)] / np.outer(pairs, pairs)[..., None]).transpose(2, 0, 1)


def _radial_psd(patches: Array) -> Array:
    """Mean radial power of Hann-windowed patches, 3 x 12 on 0..0.5 cycles per pixel."""
    side = patches.shape[1]
    line = np.hanning(side + 2)[1:-1]
    window = np.outer(line, line)
    power = np.mean(np.abs(np.fft.fft2(patches * window[..., None], axes=(1, 2))) ** 2, axis=0)
    frequency = np.fft.fftfreq(side)
    radius = np.hypot(frequency[:, None], frequency[None])
    inside = radius <= 0.5
    index = np.minimum((radius[inside] * 2 * FLAT_SPECTRUM_BINS).astype(np.int64), FLAT_SPECTRUM_BINS - 1)
    count = np.bincount(index, minlength=FLAT_SPECTRUM_BINS)
    return np.stack(
        [np.bincount(index, power[..., c][inside], FLAT_SPECTRUM_BINS) / count for c in range(3)]
    ) / np.sum(window**2)


def compare_unpaired(real: UnpairedStatistics, fake: UnpairedStatistics) -> dict[str, float]:
    """Distances of ``fake`` from ``real``; names as in `realism.compare`, of high-passed flat patches.

    ``kl``: forward KL of pooled histograms, at most 64 bins on +-0.1; ``acf_rms``; ``psd_db``: mean absolute
    difference; ``std_real``, ``std_fake`` in grey levels and ``std_ratio``: fake over real, 1 is best;
    ``channel_std_rms``: RMS over channels of the log ratio of stds, in dB; ``channel_correlation_rms``;
    ``kurtosis_*``: excess, pooled, and averaged over pictures; ``noise_level_rms``: RMS over luma bins that
    both have of the difference of stds, in grey levels, weighted by the smaller number of patches, since
    bins of few are chance; NaN if there is none.
    """
    ratio = 20.0 * np.log10(np.maximum(fake.channel_std, 1e-6) / np.maximum(real.channel_std, 1e-6))
    correlation = fake.channel_correlation - real.channel_correlation
    counts = [aligned_bins(side.histograms.sum(axis=0)) for side in (real, fake)]
    return {
        "kl": kl_divergence(counts[0], counts[1]),
        "acf_rms": acf_error(real.autocorrelation, fake.autocorrelation),
        "psd_db": psd_error_db(real.psd_db, fake.psd_db),
        "std_real": real.std * 255.0,
        "std_fake": fake.std * 255.0,
        "std_ratio": fake.std / max(real.std, 1e-12),
        "channel_std_rms": float(np.sqrt(np.mean(ratio**2))),
        "channel_correlation_rms": float(np.sqrt(np.mean(correlation**2))),
        "kurtosis_real": real.excess_kurtosis,
        "kurtosis_fake": fake.excess_kurtosis,
        "kurtosis_image_real": real.image_kurtosis,
        "kurtosis_image_fake": fake.image_kurtosis,
        "noise_level_rms": _noise_level_rms(real, fake),
    }


def _noise_level_rms(real: UnpairedStatistics, fake: UnpairedStatistics) -> float:
    levels = (fake.noise_level - real.noise_level) * 255.0
    both = ~np.isnan(levels)
    counts = [side.intensity[..., 0].sum(axis=0) for side in (real, fake)]
    return (
        float(np.sqrt(np.average(levels[both] ** 2, weights=np.minimum(*counts)[both])))
        if both.any()
        else float("nan")
    )
