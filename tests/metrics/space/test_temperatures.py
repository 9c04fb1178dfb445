"""Best temperature: the nearest at every pixel, its share, and what choosing it there would save."""

from __future__ import annotations

import pytest
import torch

from deflow_cli.errors import ShapeError
from deflow_cli.metrics.space.temperatures import best_temperature


def test_every_pixel_has_its_nearest_temperature():
    maps = [torch.tensor(rows) for rows in ([[1.0, 9.0, 5.0]], [[2.0, 3.0, 5.0]], [[3.0, 1.0, 6.0]])]
    best = best_temperature(maps)
    assert best.index_hw.tolist() == [[0, 2, 0]]  # equally near: the first
    assert best.shares.tolist() == pytest.approx([2 / 3, 0, 1 / 3])
    assert best.means == pytest.approx((5, 10 / 3, 10 / 3))
    assert best.best == 1
    assert best.local == pytest.approx(7 / 3)
    assert best.gain == pytest.approx(0.3)


def test_perfect_samples_leave_nothing_to_save():
    assert best_temperature([torch.zeros(2, 2), torch.ones(2, 2)]).gain == 0


def test_no_map_and_maps_of_two_sizes_are_refused():
    with pytest.raises(ShapeError, match="0 distance maps"):
        best_temperature([])
    with pytest.raises(ShapeError, match="2 distance maps"):
        best_temperature([torch.zeros(2, 2), torch.zeros(2, 3)])
