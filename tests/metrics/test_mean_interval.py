"""The interval of a mean is Student's."""

import math

import pytest

from deflow_cli.metrics.mean_interval import mean_interval


def test_intervals_of_the_mean():
    # Student's t for four degrees of freedom: 2.776445.
    low, high = mean_interval([1, 2, 3, 4, 5, math.nan])
    assert (low + high) / 2 == pytest.approx(3)
    assert (high - low) / 2 == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
    assert mean_interval([1.0, 2.0]) is None
