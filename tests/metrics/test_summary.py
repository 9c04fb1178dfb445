"""Summary: intervals cover, differences are paired, ranks know their direction and share what is equal."""

from __future__ import annotations

import numpy as np
import pytest

from deflow_cli.metrics.summary import compare_methods, mean_ranks, resampled_means, summarize


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_figures_are_of_the_finite_values():
    values = np.array([1.0, 2.0, 4.0, np.nan, np.inf])
    found = summarize(values, _rng())
    assert (found.mean, found.median, found.n, found.of, found.infinite) == (7 / 3, 2.0, 3, 5, 1)
    assert found.std == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert 1 <= found.low < found.mean < found.high <= 4


def test_too_few_values_have_no_interval_rather_than_a_false_one():
    one, none, equal = (summarize(np.array(v), _rng()) for v in ([3.0], [np.nan], [np.inf, np.inf]))
    assert (one.mean, one.n) == (3.0, 1)
    assert np.isnan([one.low, one.high, one.std, none.mean, none.low]).all()
    assert (none.n, equal.mean, equal.n, equal.infinite) == (0, np.inf, 0, 2)


def test_the_interval_covers_the_true_mean():
    rng, hits = _rng(3), 0
    for _ in range(300):
        found = summarize(rng.normal(5.0, 2.0, 40), rng, resamples=500)
        hits += found.low <= 5.0 <= found.high
    assert 0.90 < hits / 300 < 0.98, "percentile intervals of 40 normal values cover about 94 %"


def test_the_interval_has_the_width_of_the_standard_error():
    values = _rng(1).normal(0.0, 1.0, 400)
    found = summarize(values, _rng())
    assert (found.high - found.low) / (2 * 1.96 * found.std / 20) == pytest.approx(1, abs=0.06)


def test_the_same_seed_gives_the_same_interval():
    values = _rng(1).normal(size=30)
    assert summarize(values, _rng(7)) == summarize(values, _rng(7))
    assert summarize(values, _rng(7)) != summarize(values, _rng(8))


def test_resampling_in_chunks_is_the_mean_of_picks(monkeypatch):
    values = _rng(2).normal(size=(3, 11))
    whole = resampled_means(values, _rng(5), 64)
    monkeypatch.setattr("deflow_cli.metrics.summary._CHUNK", 50)
    assert np.array_equal(resampled_means(values, _rng(5), 64), whole)


def test_a_constant_offset_is_certain_though_images_differ_widely():
    base = _rng(4).normal(30.0, 8.0, 25)
    found = compare_methods(np.stack([base, base + 0.01]), True, _rng())
    assert (found.best, found.ranks, found.n) == (1, (2, 1), 25)
    difference = found.differences[0]
    assert difference is not None
    assert difference.mean == pytest.approx(-0.01)
    assert difference.high - difference.low == pytest.approx(0, abs=1e-12)


def test_direction():
    low, high = np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.1])
    assert compare_methods(np.stack([low, high]), True, _rng()).ranks == (2, 1)
    assert compare_methods(np.stack([low, high]), False, _rng()).ranks == (1, 2)


def test_what_cannot_be_told_apart_shares_a_rank():
    rng = _rng(6)
    base = rng.normal(30.0, 5.0, 60)
    near = base + rng.normal(0.0, 1.0, 60)
    near += base.mean() - near.mean() - 1e-3  # hardly worse in the mean, either way image by image
    far = base - 2 + rng.normal(0.0, 1.0, 60)
    assert compare_methods(np.stack([far, near, base]), True, _rng()).ranks == (3, 1, 1)
    assert compare_methods(np.stack([base, base, far]), True, _rng()).ranks == (1, 1, 3)


def test_only_images_that_all_have_are_compared():
    a = np.array([10.0, 20.0, np.nan, np.inf])
    b = np.array([11.0, np.nan, 90.0, 50.0])
    found = compare_methods(np.stack([a, b]), True, _rng())
    assert (found.n, found.best) == (1, 1)


def test_a_method_without_values_has_no_rank_and_hides_no_others():
    nothing = np.full(3, np.nan)
    found = compare_methods(np.array([[1.0, 2.0, 3.0], nothing, [2.0, 3.0, 4.0]]), True, _rng())
    assert found.ranks == (2, None, 1)
    assert found.differences[1] is None
    assert compare_methods(np.stack([nothing, nothing]), True, _rng()).best is None


def test_mean_ranks_leave_out_what_is_not_ranked():
    assert mean_ranks([[1, 2, None], [1, 1, None], [3, 2, None]]) == (5 / 3, 5 / 3, None)
