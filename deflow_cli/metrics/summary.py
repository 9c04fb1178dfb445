"""Summary: what values over images say of methods: means, bootstrap intervals, paired differences, ranks.

Intervals are percentile bootstraps over images (Efron & Tibshirani 1993, ch. 13): the images, not the
pixels, are the sample. NumPy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
_CHUNK = 1 << 21  # resampled values held at once

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """One method and metric over images; figures are of the n finite values, NaN where there are too few.

    std: of the sample (n - 1). low, high: 95 % interval of the mean. of: images in all. infinite: values
    left out because they are infinite.
    """

    mean: float
    median: float
    std: float
    low: float
    high: float
    n: int
    of: int
    infinite: int = 0


@dataclass(frozen=True)
class Difference:
    """Mean of method minus best over the images both have, with its paired 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Methods on one metric, over the n images that have a finite value in all of those compared.

    best: index of the method with the best mean, None where nothing can be compared. differences, ranks: per
    method; None for a method without values.
    """

    best: int | None
    differences: tuple[Difference | None, ...]
    ranks: tuple[int | None, ...]
    n: int


def resampled_means(values_mn: Values, rng: np.random.Generator, resamples: int = RESAMPLES) -> Values:
    """Bootstrap means over images, methods x resamples; every method sees the same resampled images.

    values_mn: methods x images, finite.
    """
    count = values_mn.shape[1]
    means = np.empty((values_mn.shape[0], resamples))
    step = max(1, _CHUNK // (count * max(1, values_mn.shape[0])))
    for first in range(0, resamples, step):
        picks = rng.integers(0, count, (min(step, resamples - first), count))
        means[:, first : first + step] = values_mn[:, picks].mean(-1)
    return means


def _interval(means: Values) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def summarize(values_n: Values, rng: np.random.Generator, resamples: int = RESAMPLES) -> Summary:
    """Mean, median, spread and interval of one method's values, NaN and infinite ones left out.

    A single value has no interval, none has no mean; where all defined values are infinite the mean is too.
    """
    values = np.asarray(values_n, np.float64)
    finite = values[np.isfinite(values)]
    infinite = int(np.isinf(values).sum())
    if not len(finite):
        mean = float(values[np.isinf(values)][0]) if infinite else float("nan")
        return Summary(mean, mean, float("nan"), float("nan"), float("nan"), 0, len(values), infinite)
    low = high = std = float("nan")
    if len(finite) > 1:
        low, high = _interval(resampled_means(finite[None], rng, resamples))
        std = float(finite.std(ddof=1))
    return Summary(
        float(finite.mean()), float(np.median(finite)), std, low, high, len(finite), len(values), infinite
    )


def compare_methods(
    values_mn: Values, higher_is_better: bool, rng: np.random.Generator, resamples: int = RESAMPLES
) -> Comparison:
    """Paired comparison of methods (rows) over the same images (columns).

    Methods without any finite value are left out, then images where one of the others has none. The best
    remaining method leads a rank, shared by all whose paired interval of the difference to it includes 0;
    the next rank counts the methods before it (1, 1, 3). With a single image nothing is told apart but
    the values themselves, so only equal values share.
    """
    values = np.asarray(values_mn, np.float64)
    present = [index for index, row in enumerate(values) if np.isfinite(row).any()]
    common = values[present][:, np.isfinite(values[present]).all(0)] if present else values[:0]
    none: tuple[None, ...] = (None,) * len(values)
    if len(present) < 2 or common.shape[1] == 0:
        return Comparison(None, none, none, 0)
    signed = common if higher_is_better else -common
    order = sorted(range(len(present)), key=lambda index: -signed[index].mean())
    ranks: dict[int, int] = {}
    differences: dict[int, Difference] = {}
    left = order
    state = rng.bit_generator.state
    while left:
        leader, place = left[0], len(ranks) + 1
        rng.bit_generator.state = state  # the same resampled images for every leader
        against = common[left] - common[leader]
        means = resampled_means(against, rng, resamples)
        rest = []
        for row, index in enumerate(left):
            low, high = _interval(means[row])
            if leader == order[0]:
                differences[index] = Difference(float(against[row].mean()), low, high)
            if low <= 0 <= high:
                ranks[index] = place
            else:
                rest.append(index)
        left = rest
    where = {method: position for position, method in enumerate(present)}
    return Comparison(
        present[order[0]],
        tuple(differences[where[m]] if m in where else None for m in range(len(values))),
        tuple(ranks[where[m]] if m in where else None for m in range(len(values))),
        common.shape[1],
    )


def mean_ranks(ranks_km: Sequence[Sequence[int | None]]) -> tuple[float | None, ...]:
    """Mean over metrics (rows) of each method's rank (columns), of the metrics that rank it."""
    means: list[float | None] = []
    for ranks in zip(*ranks_km, strict=True):
        known = [rank for rank in ranks if rank is not None]
        means.append(sum(known) / len(known) if known else None)
    return tuple(means)
