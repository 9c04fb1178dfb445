"""Bradley-Terry: each pair of a ranking is a contest, and P(i above j) = p_i / (p_i + p_j) (1952)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deflow_cli.metrics.study.choices import ChoiceData, all_pairs
from deflow_cli.metrics.study.rankings import Ranking, check_rankings


def pair_contests(rankings: Sequence[Ranking], items: int) -> ChoiceData:
    """The contests of every pair of each ranking; a tie counts as half a win for both."""
    check_rankings(rankings, items)
    pairs = all_pairs(items)
    beats = np.zeros((len(rankings), items, items))
    for trial, ranking in enumerate(rankings):
        for place, group in enumerate(ranking):
            below = [item for later in ranking[place + 1 :] for item in later]
            beats[np.ix_([trial], group, below)] = 1
            beats[np.ix_([trial], group, group)] = 0.5
    beats[:, range(items), range(items)] = 0
    members = np.zeros((len(pairs), items), bool)
    for number, pair in enumerate(pairs):
        members[number, list(pair)] = True
    counts = np.stack([beats[:, i, j] + beats[:, j, i] for i, j in pairs], 1)
    return ChoiceData(members, beats.sum(2), counts, beats)
