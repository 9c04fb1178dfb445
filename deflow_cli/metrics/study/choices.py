"""Choices: strengths of items from choices among sets of them, by Luce's axiom.

The chance that item i is chosen from a set S is p_i / sum of p over S. Bradley-Terry has sets of two, and a
ranking of Plackett-Luce is a row of choices from ever smaller sets, so both are fitted here by one iteration
(minorisation-maximisation: Hunter, "MM algorithms for generalized Bradley-Terry models", 2004, eq. 30):

    p_i <- w_i / sum over choices from sets S that contain i of 1 / (sum of p over S)

with w_i the choices that i won, until the largest change of log p is below a tolerance. Log strengths have
the mean 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deflow_cli.metrics.study.rankings import Reals

TOLERANCE = 1e-10
MOST_ITERATIONS = 20000
VIRTUAL_WIN = 0.5  # of each item over each other one, where the data alone have no finite maximum
LARGEST = 10.0  # of a log strength; e^10 is 22 000 to 1


@dataclass(frozen=True)
class ChoiceData:
    """The choices of T trials. members_sm: which of m items the S sets hold, among them every pair.

    wins_tm: choices that an item won in a trial. counts_ts: choices from each set. beats_tmm: how often the
    first item stood above the second.
    """

    members_sm: NDArray[np.bool_]
    wins_tm: Reals
    counts_ts: Reals
    beats_tmm: Reals


@dataclass(frozen=True)
class Strengths:
    """Log strengths, draws x items, and for each draw whether its data separate the items.

    separated: some items always stood above all others, so the likelihood grows without end as their strength
    does. There half a virtual win of each item over each other one was added, and log strengths are cut at
    ``LARGEST``.
    """

    log_strengths_dm: Reals
    separated_d: NDArray[np.bool_]


def fit_choices(data: ChoiceData, weights_dt: Reals | None = None, tolerance: float = TOLERANCE) -> Strengths:
    """Maximum-likelihood strengths; of every row of weights (how often it holds each trial) at once."""
    weights = np.ones((1, len(data.wins_tm))) if weights_dt is None else weights_dt
    items = data.wins_tm.shape[1]
    wins, counts = weights @ data.wins_tm, weights @ data.counts_ts
    beats = (weights @ data.beats_tmm.reshape(len(data.wins_tm), -1)).reshape(-1, items, items)
    separated = ~_is_connected(beats > 0)
    is_pair = data.members_sm.sum(1) == 2
    wins[separated] += VIRTUAL_WIN * (items - 1)
    counts[separated] += 2 * VIRTUAL_WIN * is_pair
    logs = _iterate(wins, counts, data.members_sm.astype(np.float64), tolerance)
    return Strengths(np.clip(logs, -LARGEST, LARGEST), separated)


def all_pairs(items: int) -> list[tuple[int, int]]:
    """The unordered pairs of items.

    >>> all_pairs(3)
    [(0, 1), (0, 2), (1, 2)]
    """
    return [(i, j) for i in range(items) for j in range(i + 1, items)]


def _iterate(wins_dm: Reals, counts_ds: Reals, members_sm: Reals, tolerance: float) -> Reals:
    logs = np.zeros_like(wins_dm)
    active = np.arange(len(wins_dm))
    for _ in range(MOST_ITERATIONS):
        before = logs[active]
        strengths = np.exp(before)
        shares = counts_ds[active] / (strengths @ members_sm.T)
        after = np.log(wins_dm[active]) - np.log(shares @ members_sm)
        after -= after.mean(1, keepdims=True)
        logs[active] = after
        active = active[np.abs(after - before).max(1) >= tolerance]
        if not len(active):
            break
    return logs


def _is_connected(beats_dmm: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """For each draw, whether a way of wins leads from every item to every other one."""
    items = beats_dmm.shape[1]
    reach = beats_dmm | np.eye(items, dtype=bool)
    length = 1
    while length < items:
        reach = np.matmul(reach.astype(np.float32), reach.astype(np.float32)) > 0
        length *= 2
    return np.asarray(reach.all((1, 2)))
