"""Agreement: of raters with each other, of orders with metrics, and how many trials a difference takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deflow_cli.errors import ShapeError
from deflow_cli.metrics.study.rankings import Reals

_POWER_FACTOR = 15.7  # 2 (z(0.975) + z(0.8))^2: 80 % power at 5 %, two-sided, two independent groups


def kendalls_w(places_nm: Reals) -> float:
    """Kendall's coefficient of concordance of n raters on m items, 0 (none) to 1 (all ranked alike).

    W = 12 S / (n^2 (m^3 - m) - n T), S the sum of squared deviations of rank sums from their mean, T the sum
    over raters and groups of ties of t^3 - t (Kendall and Smith 1939). NaN where all items are tied, or for a
    single rater. Raises ShapeError for fewer than two items.
    """
    raters, items = places_nm.shape
    if items < 2:
        raise ShapeError(f"{items} items: two or more can be ranked")
    sums = places_nm.sum(0)
    spread = float(np.square(sums - sums.mean()).sum())
    ties = sum(
        int(count) ** 3 - int(count) for row in places_nm for count in np.unique(row, return_counts=True)[1]
    )
    possible = raters**2 * (items**3 - items) - raters * ties
    return 12 * spread / possible if possible > 0 and raters > 1 else math.nan


def spearman(first: Sequence[float] | Reals, second: Sequence[float] | Reals) -> float:
    """Spearman's rank correlation, ties at their mean places; NaN where either side is constant."""
    ranks = [_mean_places(np.asarray(values, np.float64)) for values in (first, second)]
    centred = [values - values.mean() for values in ranks]
    scale = math.sqrt(float(np.square(centred[0]).sum() * np.square(centred[1]).sum()))
    return float(centred[0] @ centred[1]) / scale if scale > 0 else math.nan


def trials_needed(gap: float, sd: float) -> float:
    """Independent trials a group to see a gap of mean ranks at 80 % power and 5 %: 15.7 sd^2 / gap^2.

    Ranks of one trial are paired, so fewer are enough.

    >>> math.ceil(trials_needed(0.1, 1.2))
    2261
    """
    return _POWER_FACTOR * sd**2 / gap**2 if gap else math.inf


def _mean_places(values: Reals) -> Reals:
    return np.asarray([(values < value).sum() + ((values == value).sum() + 1) / 2 for value in values])
