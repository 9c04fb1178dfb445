"""Rankings: places, mean opinion ranks with and without the catch item."""

from __future__ import annotations

import numpy as np
import pytest

from deflow_cli.metrics.study.rankings import Ranking, catch_mean_rank, mean_ranks_of, places_of, without_item

TABLES = {  # DeFlow, tables 1 to 3: mean opinion ranks of the methods of a study
    "AIM": ((4.182, 4.237, 3.855, 4.285, 3.317), 1.124),
    "NTIRE": ((3.643, 4.463, 3.253, 5.257, 3.247), 1.137),
    "DPED": ((2.502, 1.590, 1.930), 3.978),
}


@pytest.mark.parametrize("table", TABLES)
def test_identity_of_rank_sums(table: str):
    mors, expected = TABLES[table]
    assert catch_mean_rank(mors) == pytest.approx(expected, abs=5e-4)


def test_the_identity_holds_for_rankings():
    rng = np.random.default_rng(0)
    rankings: list[Ranking] = [tuple((int(i),) for i in rng.permutation(4)) for _ in range(30)]
    places = np.stack([places_of(one, 4) for one in rankings])
    means = mean_ranks_of(places)
    assert catch_mean_rank(list(means[:3])) == pytest.approx(means[3])
    corrected = np.stack([places_of(without_item(one, 3), 4)[:3] for one in rankings])
    assert mean_ranks_of(corrected).sum() == pytest.approx(6)


def test_mean_ranks_of_draws():
    places = np.array([[1.0, 2], [2, 1]])
    found = mean_ranks_of(places, np.array([[2.0, 0], [1, 1], [0, 0]]))
    np.testing.assert_array_equal(found, [[1, 2], [1.5, 1.5], [np.nan, np.nan]])
