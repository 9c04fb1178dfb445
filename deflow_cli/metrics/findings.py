"""Findings: what the figures of realism say, in sentences a person can act on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from .content import Content
from .independence import Independence
from .repetition import Repetition
from .residual import Array

Severity = Literal["good", "note", "warn", "bad"]
ORDER: dict[Severity, int] = {"bad": 0, "warn": 1, "note": 2, "good": 3}


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
class Finding:
    """One sentence about one ``subject`` (level, tones, grain, spectrum, detail, colour, content, randomness,
    repetition, channels, tails, or overall)."""

    subject: str
    severity: Severity
    sentence: str


@dataclass(frozen=True)
class Floors:
    """How far halves of the real pictures are apart, RMS over splits, in each figure that `judge` compares.

    ``level``: log of the ratio of stds; ``tones``: the same in 16 bins of brightness, NaN where unknown;
    ``neighbour``: correlation of adjacent pixels; ``tilt_db``: coarse over fine half of the spectrum;
    ``shape_db``: mean absolute difference of the spectra's shapes; ``channels``: largest difference of the
    channel correlations; ``tails``: log of the ratio of kurtoses.
    """

    level: float
    tones: Array
    neighbour: float
    tilt_db: float
    shape_db: float
    channels: float
    tails: float


def measure_floors(real: Divisible, splits: int = 16) -> Floors | None:
    """Floors from random disjoint halves of the real pictures; None below four pictures. Deterministic."""
    return None


def judge(
    real: NoiseStatistics | None,
    fake: NoiseStatistics,
    *,
    content: Content | None = None,
    real_content: Content | None = None,
    independence: Independence | None = None,
    repetition: Repetition | None = None,
    real_repetition: Repetition | None = None,
    floors: Floors | None = None,
) -> list[Finding]:
    """Compare a synthetic set with a real one and say what differs, worst first; never empty."""
    return [Finding("overall", "note", "not judged yet")]
