"""Plackett-Luce: a ranking is a row of choices, the best of all, then the best of the rest (Plackett 1975).

    log L = sum over trials and places k below the last of theta_(k) - log sum over l >= k of exp theta_(l)

with theta = log p. For two items it is Bradley-Terry.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deflow_cli.metrics.study.choices import ChoiceData, all_pairs
from deflow_cli.metrics.study.rankings import Ranking, check_rankings


def ranking_choices(rankings: Sequence[Ranking], items: int) -> ChoiceData:
    """The choices of each ranking; none among the items of the last group.

    A tie before it is a choice of each of its items from the same set (Breslow's approximation).
    """
    check_rankings(rankings, items)
    numbers = {frozenset(pair): number for number, pair in enumerate(all_pairs(items))}
    wins, beats = np.zeros((len(rankings), items)), np.zeros((len(rankings), items, items))
    chosen: list[tuple[int, int, int]] = []  # trial, set, choices
    for trial, ranking in enumerate(rankings):
        left = [item for group in ranking for item in group]
        for group in ranking[:-1]:
            number = numbers.setdefault(frozenset(left), len(numbers))
            chosen.append((trial, number, len(group)))
            left = left[len(group) :]
            wins[trial, list(group)] = 1
            beats[np.ix_([trial], group, left)] = 1
    members = np.zeros((len(numbers), items), bool)
    for held, number in numbers.items():
        members[number, list(held)] = True
    counts = np.zeros((len(rankings), len(numbers)))
    for trial, number, count in chosen:
        counts[trial, number] += count
    return ChoiceData(members, wins, counts, beats)
