"""Two-way bootstrap: what draws hold, intervals that cover, and p of pairs."""

from __future__ import annotations

import numpy as np
import pytest

from deflow_cli.metrics.study.bootstrap import pair_p_values, percentile_interval, two_way_weights
from deflow_cli.metrics.study.choices import all_pairs, fit_choices
from deflow_cli.metrics.study.plackett_luce import ranking_choices


def test_a_trial_is_drawn_as_often_as_its_participant_times_its_image():
    people, images = ["a", "a", "b", "b"], ["x", "y", "x", "y"]
    weights = two_way_weights(people, images, 400, np.random.default_rng(0))
    table = weights.reshape(-1, 2, 2)
    np.testing.assert_array_equal(table[:, 0, 0] * table[:, 1, 1], table[:, 0, 1] * table[:, 1, 0])
    np.testing.assert_array_equal(weights.sum(1), 4)  # two people of two times two images of two
    assert weights.mean() == pytest.approx(1, abs=0.05)


def test_same_seed_same_draws():
    draws = [two_way_weights(["a", "b"], ["x", "y"], 9, np.random.default_rng(7)) for _ in range(2)]
    np.testing.assert_array_equal(*draws)


def test_intervals_are_wider_than_over_trials_where_people_differ():
    rng = np.random.default_rng(1)
    people = [f"p{k}" for k in range(12) for _ in range(30)]
    images = [f"i{k}" for _ in range(12) for k in range(30)]
    values = np.repeat(rng.normal(size=12), 30) + 0.1 * rng.normal(size=360)

    def width(weights: np.ndarray) -> float:
        low, high = percentile_interval((weights @ values / weights.sum(1))[:, None])
        return float(high[0] - low[0])

    over_trials = rng.multinomial(360, np.full(360, 1 / 360), 500).astype(float)
    assert width(two_way_weights(people, images, 500, rng)) > 3 * width(over_trials)


def test_random_rankings_hold_zero():
    rng = np.random.default_rng(2)
    rankings = [tuple((int(item),) for item in rng.permutation(4)) for _ in range(300)]
    people = [f"p{k // 20}" for k in range(300)]
    images = [f"i{k % 20}" for k in range(300)]
    weights = two_way_weights(people, images, 2000, rng)
    low, high = percentile_interval(fit_choices(ranking_choices(rankings, 4), weights, 1e-6).log_strengths_dm)
    assert (low < 0).all()
    assert (high > 0).all()
    assert (high - low < 1).all()


def test_draws_without_a_value_are_left_out():
    low, high = percentile_interval(np.array([[1.0], [np.nan], [3.0]]))
    assert (low[0], high[0]) == (pytest.approx(1.05), pytest.approx(2.95))


def test_p_of_pairs():
    draws = np.stack([np.arange(-1.0, 9.0), np.zeros(10), np.full(10, 20.0)], 1)
    found = pair_p_values(draws, all_pairs(3))
    np.testing.assert_allclose(found, [2 * 3 / 11, 2 / 11, 2 / 11])  # 2 of 10 are not above 0
