"""Agreement: Kendall's W and Spearman beside SciPy, and the trials that a difference takes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from deflow_cli.errors import ShapeError
from deflow_cli.metrics.study.agreement import kendalls_w, spearman, trials_needed


def test_equal_rankings_agree_wholly():
    assert kendalls_w(np.tile([1.0, 2, 3, 4], (7, 1))) == 1


def test_opposite_rankings_do_not_agree():
    assert kendalls_w(np.array([[1.0, 2, 3], [3, 2, 1]])) == 0


@pytest.mark.parametrize("tied", [False, True])
def test_w_is_friedmans_statistic_over_its_maximum(tied: bool):
    rng = np.random.default_rng(3)
    values = rng.integers(0, 3, (9, 5)).astype(float) if tied else rng.random((9, 5))
    places = np.stack([stats.rankdata(row) for row in values])
    friedman = stats.friedmanchisquare(*values.T).statistic
    assert kendalls_w(places) == pytest.approx(friedman / (9 * 4))


def test_one_rater_says_nothing_of_agreement():
    assert math.isnan(kendalls_w(np.array([[1.0, 2, 3]])))
    with pytest.raises(ShapeError, match="two or more"):
        kendalls_w(np.ones((3, 1)))


def test_spearman_with_ties():
    first, second = [1.0, 2, 2, 4, 5], [3.0, 1, 4, 4, 9]
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert math.isnan(spearman([1.0, 1, 1], [1.0, 2, 3]))


def test_trials_for_a_gap():
    assert trials_needed(0.1, 1.2) == pytest.approx(2260.8)
    assert math.isinf(trials_needed(0.0, 1.2))
