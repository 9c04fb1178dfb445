"""Confidence interval of a mean by Student's t distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

FEWEST_VALUES = 3  # values; the interval of two is too wide to say anything


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % confidence interval of the mean of the finite values; None for fewer than three."""
    found = np.asarray([value for value in map(float, values) if math.isfinite(value)])
    if found.size < FEWEST_VALUES:
        return None
    half = float(stdtrit(found.size - 1, 0.975) * found.std(ddof=1) / math.sqrt(found.size))
    return float(found.mean()) - half, float(found.mean()) + half
