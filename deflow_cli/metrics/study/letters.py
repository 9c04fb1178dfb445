"""Letters: which methods a study tells apart, with p corrected for the number of pairs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from deflow_cli.metrics.study.rankings import Reals


def holm(p_values: Sequence[float] | Reals) -> Reals:
    """Holm's step-down correction (Holm 1979): p times the number of hypotheses not yet rejected, monotone.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(values[order] * (len(values) - np.arange(len(values))))
    return np.minimum(corrected, 1.0)


def letter_display(items: int, different: Collection[tuple[int, int]]) -> list[str]:
    """A word for each item, such that two items share a letter exactly where they are not told apart.

    Insert and absorb (Piepho, "An algorithm for a letter-based representation of all-pairwise comparisons",
    2004). items: numbered from the best, so that the letter a begins with it. different: pairs that are told
    apart.

    >>> letter_display(4, {(0, 2), (0, 3), (1, 3)})
    ['a', 'ab', 'bc', 'c']
    """
    columns = [frozenset(range(items))]
    for i, j in sorted(different):
        split: list[frozenset[int]] = []
        for column in columns:
            split += [column - {i}, column - {j}] if {i, j} <= column else [column]
        columns = _absorbed(split)
    columns.sort(key=sorted)
    return [
        "".join(_letter(number) for number, column in enumerate(columns) if item in column)
        for item in range(items)
    ]


def _absorbed(columns: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """Without columns that are part of another one."""
    distinct = list(dict.fromkeys(columns))
    return [column for column in distinct if not any(column < other for other in distinct)]


def _letter(number: int) -> str:
    """a to z, then A to Z, then numbers in brackets."""
    if number < 26:
        return chr(ord("a") + number)
    return chr(ord("A") + number - 26) if number < 52 else f"({number + 1})"
