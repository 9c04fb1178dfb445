"""Differences: how far two sets of noise statistics are apart, and how far two halves of one set are."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Array

TONES = {"shadows": slice(0, 5), "mid-tones": slice(5, 11), "highlights": slice(11, 16)}
"""Bins of the noise level by intensity: below 5/16 of full luma, from 11/16, and between."""
LEAST_STD = 0.25 / 255.0  # below, 8 bits show no noise


class NoiseStatistics(Protocol):
    """What `judge` reads of a set of pictures: of residuals, or of unpaired pictures' high-pass residuals."""

    @property
    def std(self) -> float: ...
    @property
    def noise_level(self) -> Array: ...
    @property
    def autocorrelation(self) -> Array: ...
    @property
    def psd_db(self) -> Array: ...
    @property
    def channel_correlation(self) -> Array: ...
    @property
    def excess_kurtosis(self) -> float: ...


class Divisible(NoiseStatistics, Protocol):
    """Statistics of a set of pictures that can be split."""

    def __len__(self) -> int: ...
    def take(self, rows: NDArray[np.int64]) -> NoiseStatistics: ...


@dataclass(frozen=True)
class NoiseDifferences:
    """How far two sets of statistics are apart, second less first; or the RMS of that, for floors.

    ``level``: log of the ratio of stds; ``tones``: the same in shadows, mid-tones and highlights, NaN where
    unknown; ``neighbour``: correlation of adjacent pixels; ``tilt_db``: coarse over fine half of the
    spectrum; ``shape_db``: mean absolute difference of the spectra once the level is taken off; ``acf``: RMS
    difference of autocorrelations; ``channel_correlation``: of the three pairs of channels; ``tails``: log of
    the ratio of kurtoses.
    """

    level: float
    tones: Array
    neighbour: float
    tilt_db: float
    shape_db: float
    acf: float
    channel_correlation: Array
    tails: float


Floors = NoiseDifferences
"""NoiseDifferences of halves of one set: what no model can be asked to undercut."""


def measure_floors(real: Divisible, splits: int = 16) -> Floors | None:
    """Floors from random disjoint halves of the real pictures; None below four pictures. Deterministic.

    RMS over the splits, times sqrt((n - 1) / (n - 3)), the spread of Student's t with n - 1 degrees of
    freedom: few pictures say little about how far pictures differ.
    """
    generator = np.random.default_rng(0)
    differences = []
    for _ in range(splits if len(real) >= 4 else 0):
        order = generator.permutation(len(real))
        try:
            differences.append(
                measure_differences(real.take(order[: len(order) // 2]), real.take(order[len(order) // 2 :]))
            )
        except ZeroDivisionError:  # a half without a single flat patch
            continue
    if not differences:
        return None
    with np.errstate(invalid="ignore"):
        columns = [np.array(column) ** 2 for column in zip(*map(astuple, differences), strict=True)]
        known = [np.maximum((~np.isnan(column)).sum(axis=0), 1) for column in columns]
        rms = [
            np.sqrt(np.nansum(column, axis=0) / n * (len(real) - 1) / (len(real) - 3))
            for column, n in zip(columns, known, strict=True)
        ]
    level, tones, adjacent, tilt, shape, acf, channel_correlation, tails = rms
    return NoiseDifferences(
        float(level),
        tones,
        float(adjacent),
        float(tilt),
        float(shape),
        float(acf),
        channel_correlation,
        float(tails),
    )


def measure_differences(real: NoiseStatistics, fake: NoiseStatistics) -> NoiseDifferences:
    """How far ``fake`` is from ``real``, statistics of the same kind."""
    real_db, fake_db = real.psd_db, fake.psd_db
    real_tones, fake_tones = tone_levels(real, fake)
    shape = fake_db - real_db
    shape = np.abs(shape - np.nanmean(shape, axis=1, keepdims=True))
    return NoiseDifferences(
        level=_log_ratio(real.std, fake.std),
        tones=np.log(fake_tones / real_tones),
        neighbour=neighbour(fake) - neighbour(real),
        tilt_db=tilt_db(fake_db) - tilt_db(real_db),
        shape_db=float(np.nanmean(shape)),
        acf=float(np.sqrt(np.mean((fake.autocorrelation - real.autocorrelation) ** 2))),
        channel_correlation=fake.channel_correlation - real.channel_correlation,
        tails=_log_ratio(real.excess_kurtosis + 3.0, fake.excess_kurtosis + 3.0, 0.5),
    )


def _log_ratio(real: float, fake: float, least: float = LEAST_STD) -> float:
    return float(np.log(max(fake, least) / max(real, least)))


def tone_levels(real: NoiseStatistics, fake: NoiseStatistics) -> tuple[Array, Array]:
    """Std of each in shadows, mid-tones and highlights, over the bins both know; NaN where there is none.

    Geometric means over bins, on the [0, 1] scale, so that the ratio of the two is the bins' mean ratio.
    """
    logs = np.log(np.maximum([real.noise_level, fake.noise_level], LEAST_STD))
    logs[:, np.isnan(logs).any(axis=0)] = np.nan
    levels = np.full((2, len(TONES)), np.nan)
    for index, bins in enumerate(TONES.values()):
        known = ~np.isnan(logs[0, bins])
        if known.any():
            levels[:, index] = np.exp(logs[:, bins][:, known].mean(axis=1))
    return levels[0], levels[1]


def neighbour(statistics: NoiseStatistics) -> float:
    """Correlation of adjacent pixels, mean over channels and both axes."""
    acf = statistics.autocorrelation
    middle = acf.shape[-1] // 2
    return float((acf[:, middle, middle + 1] + acf[:, middle + 1, middle]).mean() / 2)


def tilt_db(psd_db: Array) -> float:
    """Mean level below a quarter cycle per pixel less that above, in dB."""
    half = psd_db.shape[1] // 2
    return float(np.nanmean(psd_db[:, :half]) - np.nanmean(psd_db[:, half:]))
