"""Letters: Holm's correction, and displays that say exactly which pairs differ."""

from __future__ import annotations

import itertools

import numpy as np

from deflow_cli.metrics.study.letters import holm, letter_display


def test_holm_of_the_textbook():
    np.testing.assert_allclose(holm([0.01, 0.005, 0.03, 0.04]), [0.03, 0.02, 0.06, 0.06])
    assert holm([]).size == 0


def test_none_and_all_differ():
    assert letter_display(3, set()) == ["a", "a", "a"]
    assert letter_display(3, {(0, 1), (0, 2), (1, 2)}) == ["a", "b", "c"]


def test_letters_are_shared_exactly_where_items_are_not_told_apart():
    rng = np.random.default_rng(0)
    pairs = list(itertools.combinations(range(6), 2))
    for _ in range(60):
        different = {pair for pair in pairs if rng.random() < 0.5}
        words = letter_display(6, different)
        assert all(words)
        for i, j in pairs:
            assert ((i, j) in different) == (not set(words[i]) & set(words[j]))
