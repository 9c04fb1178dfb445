"""Rankings: what one person said of the items of one trial, and mean opinion ranks.

A ranking is an ordered list of groups of items, the best group first; the items of a group are tied. A full
ranking has groups of one; "this one is best" has two groups; of a pair each group holds one item.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deflow_cli.errors import ShapeError

Ranking = tuple[tuple[int, ...], ...]
Reals = NDArray[np.float64]


def places_of(ranking: Ranking, items: int) -> Reals:
    """The place of each item, from 1 for the best; tied items share the mean of their places.

    NaN for items that are not in the ranking.

    >>> places_of(((2,), (0, 1)), 4)
    array([2.5, 2.5, 1. , nan])
    """
    places = np.full(items, np.nan)
    before = 0
    for group in ranking:
        places[list(group)] = before + (len(group) + 1) / 2
        before += len(group)
    return places


def without_item(ranking: Ranking, item: int) -> Ranking:
    """The ranking of the others; empty groups are left out.

    >>> without_item(((3,), (0, 2), (1,)), 3)
    ((0, 2), (1,))
    """
    groups = (tuple(one for one in group if one != item) for group in ranking)
    return tuple(group for group in groups if group)


def says_something(ranking: Ranking) -> bool:
    """Whether an item stands above another one."""
    return len(ranking) > 1


def mean_ranks_of(places_tm: Reals, weights_dt: Reals | None = None) -> Reals:
    """Mean opinion rank of each item: the mean of its places over trials (trials x items).

    weights_dt: how often each draw of a bootstrap holds each trial; then draws x items are returned, NaN for
    a draw without trials.
    """
    if weights_dt is None:
        return np.asarray(places_tm.mean(0))
    totals = weights_dt.sum(1, keepdims=True)
    return np.asarray(
        np.divide(
            weights_dt @ places_tm,
            totals,
            out=np.full((len(totals), places_tm.shape[1]), np.nan),
            where=totals > 0,
        )
    )


def catch_mean_rank(mean_ranks: Sequence[float]) -> float:
    """Mean rank of the catch item, from those of the m - 1 methods that were ranked together with it.

    The ranks 1 to m of a trial sum to m (m + 1) / 2, and so do the mean ranks of all m items. From the
    mean opinion ranks that DeFlow published (tables 1 to 3):

    >>> aim, ntire = (4.182, 4.237, 3.855, 4.285, 3.317), (3.643, 4.463, 3.253, 5.257, 3.247)
    >>> [round(catch_mean_rank(mors), 3) for mors in (aim, ntire, (2.502, 1.590, 1.930))]
    [1.124, 1.137, 3.978]
    """
    items = len(mean_ranks) + 1
    return items * (items + 1) / 2 - sum(mean_ranks)


def check_rankings(rankings: Sequence[Ranking], items: int) -> None:
    """Raise ShapeError for an item named twice in a ranking, or one that there is not."""
    for number, ranking in enumerate(rankings, start=1):
        named = [item for group in ranking for item in group]
        if len(set(named)) != len(named) or not set(named) <= set(range(items)):
            raise ShapeError(
                f"ranking {number} names {named}: each of {items} items at most once is expected"
            )
