"""Bradley-Terry and Plackett-Luce: published and simulated values, ties, and data without a maximum."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from deflow_cli.errors import ShapeError
from deflow_cli.metrics.study.bradley_terry import pair_contests
from deflow_cli.metrics.study.choices import LARGEST, fit_choices
from deflow_cli.metrics.study.plackett_luce import ranking_choices
from deflow_cli.metrics.study.rankings import Ranking

WINS = [((0, 1), 8), ((1, 0), 2), ((0, 2), 9), ((2, 0), 1), ((1, 2), 7), ((2, 1), 3)]
PAIRS: list[Ranking] = [((i,), (j,)) for (i, j), count in WINS for _ in range(count)]


def simulated(theta: np.ndarray, count: int, rng: np.random.Generator) -> list[Ranking]:
    """Rankings of Plackett-Luce: log strengths with Gumbel noise, sorted."""
    noisy = theta + rng.gumbel(size=(count, len(theta)))
    return [tuple((int(item),) for item in row) for row in np.argsort(-noisy, axis=1)]


@pytest.mark.parametrize("model", [pair_contests, ranking_choices])
def test_three_items(model):
    fit = fit_choices(model(PAIRS, 3))
    np.testing.assert_allclose(fit.log_strengths_dm, [[1.19722, -0.17886, -1.01836]], atol=5e-6)
    assert not fit.separated_d.any()


def test_bradley_terry_is_at_its_fixed_point():
    data = pair_contests(PAIRS, 3)
    p = np.exp(fit_choices(data).log_strengths_dm[0])
    np.testing.assert_array_equal(data.wins_tm.sum(0), [17, 9, 4])
    for i in range(3):
        expected = sum(10 * p[i] / (p[i] + p[j]) for j in range(3) if j != i)
        assert data.wins_tm.sum(0)[i] == pytest.approx(expected, abs=1e-8)


def test_simulated_rankings_are_recovered():
    theta = np.array([1, 0.5, 0, -0.5])
    rankings = simulated(theta, 2000, np.random.default_rng(0))
    found = fit_choices(ranking_choices(rankings, 4)).log_strengths_dm[0]
    np.testing.assert_allclose(found, theta - theta.mean(), atol=0.1)


def test_first_places_alone_say_the_same_of_strengths():
    theta = np.array([1, 0.5, 0, -0.5])
    full = simulated(theta, 4000, np.random.default_rng(1))
    firsts = [(one[0], tuple(item for group in one[1:] for item in group)) for one in full]
    found = fit_choices(ranking_choices(firsts, 4)).log_strengths_dm[0]
    np.testing.assert_allclose(found, theta - theta.mean(), atol=0.1)


def test_the_likelihood_has_its_maximum_there():
    rankings = simulated(np.array([0.6, 0, -0.6]), 60, np.random.default_rng(2))
    found = fit_choices(ranking_choices(rankings, 3)).log_strengths_dm[0]

    def log_likelihood(theta: np.ndarray) -> float:
        total = 0.0
        for ranking in rankings:
            order = [group[0] for group in ranking]
            total += sum(theta[order[k]] - np.log(np.exp(theta[order[k:]]).sum()) for k in range(2))
        return total

    best = log_likelihood(found)
    for step in itertools.product((-1e-3, 0, 1e-3), repeat=3):
        assert log_likelihood(found + np.array(step)) <= best + 1e-12


def test_weights_repeat_trials():
    rankings = simulated(np.array([0.5, 0, -0.5]), 12, np.random.default_rng(3))
    weights = np.random.default_rng(4).integers(0, 4, (5, 12)).astype(float)
    together = fit_choices(ranking_choices(rankings, 3), weights)
    for row, log_strengths in zip(weights, together.log_strengths_dm, strict=True):
        repeated = [one for one, count in zip(rankings, row, strict=True) for _ in range(int(count))]
        alone = fit_choices(ranking_choices(repeated, 3)).log_strengths_dm[0]
        np.testing.assert_allclose(log_strengths, alone, atol=1e-8)


@pytest.mark.parametrize("model", [pair_contests, ranking_choices])
def test_equal_rankings_are_separated_and_finite(model):
    fit = fit_choices(model([((0,), (1,), (2,))] * 50, 3))
    assert fit.separated_d.all()
    assert np.isfinite(fit.log_strengths_dm).all()
    assert np.abs(fit.log_strengths_dm).max() <= LARGEST
    assert (np.diff(fit.log_strengths_dm[0]) < -1).all()


def test_a_group_that_always_wins_is_separated():
    rankings: list[Ranking] = [((0,), (1,), (2,), (3,)), ((1,), (0,), (3,), (2,))] * 5
    assert fit_choices(ranking_choices(rankings, 4)).separated_d.all()


def test_a_tie_is_half_a_win_for_both():
    tied: list[Ranking] = [((0, 1), (2,))] * 2 + [((2,), (0, 1))]
    data = pair_contests(tied, 3)
    np.testing.assert_array_equal(data.wins_tm.sum(0), [3.5, 3.5, 2])
    found = fit_choices(data).log_strengths_dm[0]
    assert found[0] == pytest.approx(found[1])


def test_an_item_named_twice_is_refused():
    with pytest.raises(ShapeError, match="ranking 2"):
        ranking_choices([((0,), (1,)), ((0,), (0,))], 2)


def test_the_same_as_choix():
    choix = pytest.importorskip("choix")
    rankings = simulated(np.array([1, 0.2, -0.3, -0.9]), 200, np.random.default_rng(5))
    orders = [[group[0] for group in ranking] for ranking in rankings]
    contests = [(order[i], order[j]) for order in orders for i, j in itertools.combinations(range(4), 2)]
    ours = fit_choices(ranking_choices(rankings, 4)).log_strengths_dm[0]
    np.testing.assert_allclose(ours, choix.ilsr_rankings(4, orders), atol=1e-6)
    ours = fit_choices(pair_contests(rankings, 4)).log_strengths_dm[0]
    np.testing.assert_allclose(ours, choix.ilsr_pairwise(4, contests), atol=1e-6)
