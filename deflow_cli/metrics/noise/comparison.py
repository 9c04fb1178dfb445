"""Realism: the residual statistics of a set of pictures, and how far a synthetic set is from the real one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Array
from deflow_cli.errors import DataError
from deflow_cli.metrics.filters import INTENSITY_BINS
from deflow_cli.metrics.noise.residual import (
    LAGS,
    acf_error,
    aligned_bins,
    autocovariance,
    decibel,
    kl_divergence,
    level_histogram,
    luma,
    normalised,
    plain_bins,
    psd_error_db,
    radial_psd,
    region_masks,
    residual_kl_naf,
)

PAIRS = ((0, 1), (1, 2), (0, 2))
"""Channel pairs of the cross-channel correlation: red-green, green-blue, red-blue."""
REGIONS = ("flat", "dark", "bright")


@dataclass(frozen=True)
class ResidualStatistics:
    """Statistics of a set of N residuals, in one pass; leading N means one row per picture.

    ``histograms`` N x 511 counts of levels -255..255; ``moments`` N x 5: values, and means of r, r^2,
    r^3, r^4 about each channel's own mean but for r itself; ``means`` N x 3 channel means;
    ``covariances`` N x 3 x 9 x 9 autocovariance over +-4 lags; ``spectra`` N x 3 x 64 radial power;
    ``channels`` N x 3 x 3 channel covariance; ``intensity`` N x 16 x 3 count, sum, sum of squares of r by
    clean luma; ``regions`` N x 3 x 3 the same in flat, dark and bright pixels. The last two are zero
    without clean pictures.
    """

    histograms: NDArray[np.int64]
    moments: Array
    means: Array
    covariances: Array
    spectra: Array
    channels: Array
    intensity: Array
    regions: Array

    @classmethod
    def of(cls, residuals: Iterable[Array], cleans: Iterable[Array] | None = None) -> ResidualStatistics:
        """Measure residuals H x W x 3 (float64, multiples of 1/255); clean pictures in [0, 1] if any.

        Raises DataError when there is none, or when one is not H x W x 3.
        """
        rows = [
            _measure(residual, clean)
            for residual, clean in zip(residuals, repeat(None) if cleans is None else cleans, strict=False)
        ]
        if not rows:
            raise DataError("no residual to measure")
        return cls(*(np.stack(column) for column in zip(*rows, strict=True)))

    def __len__(self) -> int:
        return len(self.histograms)

    def __getitem__(self, rows: slice) -> ResidualStatistics:
        """The statistics of some of the pictures, for halves of a set."""
        return self.take(np.arange(len(self))[rows])

    def take(self, rows: NDArray[np.int64]) -> ResidualStatistics:
        """The statistics of the pictures of these indices."""
        return ResidualStatistics(*(getattr(self, field.name)[rows] for field in fields(self)))

    def _pooled_moment(self, order: int) -> float:
        return float(np.average(self.moments[:, order], weights=self.moments[:, 0]))

    @property
    def std(self) -> float:
        """Pooled std on the [0, 1] scale, every picture's channel means removed."""
        return float(np.sqrt(self._pooled_moment(2)))

    @property
    def excess_kurtosis(self) -> float:
        """Pooled; pictures of unlike noise levels raise it. Zero for Gaussian noise of one level."""
        return self._pooled_moment(4) / max(self._pooled_moment(2) ** 2, 1e-24) - 3.0

    @property
    def image_kurtosis(self) -> float:
        """Mean over pictures of each one's excess kurtosis."""
        return float(np.mean(self.moments[:, 4] / np.maximum(self.moments[:, 2] ** 2, 1e-24))) - 3.0

    @property
    def channel_correlation(self) -> Array:
        """Red-green, green-blue, red-blue correlation, pooled."""
        covariance = self.channels.mean(axis=0)
        scale = np.sqrt(np.maximum(np.diag(covariance), 1e-24))
        return np.array([covariance[i, j] / (scale[i] * scale[j]) for i, j in PAIRS])

    @property
    def autocorrelation(self) -> Array:
        """3 x 9 x 9, pooled: covariances averaged over pictures, then normalised."""
        return normalised(self.covariances.mean(axis=0))

    @property
    def mean_autocorrelation(self) -> Array:
        """3 x 9 x 9: each picture's autocorrelation, averaged."""
        return normalised(self.covariances).mean(axis=0)

    @property
    def psd_db(self) -> Array:
        """3 x 64 radial power spectrum, mean over pictures, in dB over one grey level squared."""
        return decibel(np.nanmean(self.spectra, axis=0))

    @property
    def noise_level(self) -> Array:
        """Std of r in each of 16 bins of clean luma, on the [0, 1] scale; NaN where fewer than 100 values."""
        return _spread(self.intensity.sum(axis=0))

    @property
    def region_std(self) -> dict[str, float]:
        """Std of r in flat, dark and bright pixels, on the [0, 1] scale; NaN where there are too few."""
        return dict(zip(REGIONS, map(float, _spread(self.regions.sum(axis=0))), strict=True))

    @property
    def colour_shift(self) -> Array:
        """Mean of r per channel, on the [0, 1] scale."""
        return np.average(self.means, axis=0, weights=self.moments[:, 0])


def _measure(residual: Array, clean: Array | None) -> tuple[NDArray[np.generic], ...]:
    if residual.ndim != 3 or residual.shape[2] != 3:
        raise DataError(f"a residual must be H x W x 3, got {residual.shape}")
    residual = np.asarray(residual, dtype=np.float64)
    means = residual.mean(axis=(0, 1))
    centred = residual - means
    square = centred**2
    moments = np.array(
        [centred.size, means.mean(), square.mean(), (square * centred).mean(), (square**2).mean()]
    )
    flat = centred.reshape(-1, 3)
    intensity, regions = np.zeros((INTENSITY_BINS, 3)), np.zeros((len(REGIONS), 3))
    if clean is not None:
        if clean.shape != residual.shape:
            raise DataError(f"the clean picture is {clean.shape}, its residual {residual.shape}")
        value, square = residual.sum(axis=2), (residual**2).sum(axis=2)
        index = np.minimum((luma(clean) * INTENSITY_BINS).astype(np.int64), INTENSITY_BINS - 1).ravel()
        intensity = np.stack(
            [
                3.0 * np.bincount(index, minlength=INTENSITY_BINS),
                np.bincount(index, value.ravel(), INTENSITY_BINS),
                np.bincount(index, square.ravel(), INTENSITY_BINS),
            ],
            axis=1,
        )
        masks = region_masks(clean)
        regions = np.array(
            [[3.0 * masks[r].sum(), value[masks[r]].sum(), square[masks[r]].sum()] for r in REGIONS]
        )
    return (
        level_histogram(residual),
        moments,
        means,
        autocovariance(residual, LAGS),
        radial_psd(residual),
        flat.T @ flat / len(flat),
        intensity,
        regions,
    )


def _spread(sums: Array) -> Array:
    """Std from rows of (count, sum, sum of squares); NaN below 100 values."""
    count = np.maximum(sums[:, 0], 1.0)
    variance = np.maximum(sums[:, 2] / count - (sums[:, 1] / count) ** 2, 0.0)
    return np.where(sums[:, 0] >= 100, np.sqrt(variance), np.nan)


def compare(real: ResidualStatistics, fake: ResidualStatistics) -> dict[str, float]:
    """Distances of ``fake`` from ``real``, all lower is better except as said.

    ``kl``: forward KL of pooled histograms, at most 64 bins on +-0.1 aligned with 8-bit levels;
    ``kl_neca``: the same in KLD-NeCA's plain bins; ``kl_naf``: KLD-NAF per picture, mean; ``kl_image``:
    ``kl`` per picture, mean (both NaN unless the sets pair up); ``acf_rms``, ``acf_rms_image``: of pooled
    and of averaged autocorrelations; ``psd_db``; ``std_ratio``: fake over real, 1 is best;
    ``kurtosis_real`` and ``kurtosis_fake``: excess, pooled, and ``kurtosis_image_real`` / ``_fake``
    averaged over pictures; ``channel_correlation_rms``; ``noise_level_rms``: RMS over luma bins of the
    difference of stds, and ``colour_shift``: largest channel difference of mean residuals, and
    ``std_flat_real``, ``std_flat_fake`` ... of regions, all in grey levels.
    """
    real_pooled, fake_pooled = real.histograms.sum(axis=0), fake.histograms.sum(axis=0)
    paired = len(real) == len(fake) and np.array_equal(real.moments[:, 0], fake.moments[:, 0])
    pairs = list(zip(real.histograms, fake.histograms, strict=True)) if paired else []
    levels = (fake.noise_level - real.noise_level) * 255.0
    result = {
        "kl": kl_divergence(aligned_bins(real_pooled), aligned_bins(fake_pooled)),
        "kl_neca": kl_divergence(plain_bins(real_pooled), plain_bins(fake_pooled)),
        "kl_image": _mean([kl_divergence(aligned_bins(a), aligned_bins(b)) for a, b in pairs]),
        "kl_naf": _mean([residual_kl_naf(a, b) for a, b in pairs]),
        "acf_rms": acf_error(real.autocorrelation, fake.autocorrelation),
        "acf_rms_image": acf_error(real.mean_autocorrelation, fake.mean_autocorrelation),
        "psd_db": psd_error_db(real.psd_db, fake.psd_db),
        "std_real": real.std * 255.0,
        "std_fake": fake.std * 255.0,
        "std_ratio": fake.std / max(real.std, 1e-12),
        "kurtosis_real": real.excess_kurtosis,
        "kurtosis_fake": fake.excess_kurtosis,
        "kurtosis_image_real": real.image_kurtosis,
        "kurtosis_image_fake": fake.image_kurtosis,
        "channel_correlation_rms": float(
            np.sqrt(np.mean((real.channel_correlation - fake.channel_correlation) ** 2))
        ),
        "noise_level_rms": float(np.sqrt(np.nanmean(levels**2)))
        if not np.isnan(levels).all()
        else float("nan"),
        "colour_shift": float(np.abs(fake.colour_shift - real.colour_shift).max()) * 255.0,
    }
    for region in REGIONS:
        result[f"std_{region}_real"] = real.region_std[region] * 255.0
        result[f"std_{region}_fake"] = fake.region_std[region] * 255.0
    return result


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
