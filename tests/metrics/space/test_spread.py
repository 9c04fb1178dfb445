"""Spread over samples: moments as numpy's, ranks of a calibrated space uniform, those of others not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from deflow_cli.errors import ShapeError
from deflow_cli.metrics.space.spread import SampleSpread, TruthRanks


def _spread(truth: np.ndarray, samples: np.ndarray) -> SampleSpread:
    spread = SampleSpread(torch.from_numpy(truth))
    for one in samples:
        spread.add(torch.from_numpy(one))
    return spread


def _drawn(truth_std: float, sample_std: float, count: int, bias: float = 0.0) -> SampleSpread:
    """A truth and samples around the same unknown means, which differ from pixel to pixel."""
    rng = np.random.default_rng(0)
    centre = rng.uniform(60, 190, (3, 60, 60))

    def draw(std: float, offset: float = 0.0) -> np.ndarray:
        return np.clip(np.rint(centre + offset + rng.normal(0, std, centre.shape)), 0, 255).astype(np.uint8)

    return _spread(draw(truth_std), np.stack([draw(sample_std, bias) for _ in range(count)]))


def test_moments_are_numpys():
    samples = np.random.default_rng(1).integers(0, 256, (5, 3, 8, 9), dtype=np.uint8)
    spread = _spread(samples[0], samples)
    assert spread.mean_chw.numpy() == pytest.approx(samples.mean(0))
    assert spread.std_chw.numpy() == pytest.approx(samples.std(0, ddof=1))


def test_a_single_sample_has_no_deviation_and_equal_ones_have_none():
    samples = np.full((3, 3, 4, 4), 200, np.uint8)
    assert _spread(samples[0], samples[:1]).std_chw.isnan().all()
    assert (_spread(samples[0], samples).std_chw == 0).all()


def test_ranks_count_the_samples_below_and_share_ties_evenly():
    truth = np.array([[[10, 20, 30]]], np.uint8)
    samples = np.array([[[[5, 20, 40]]], [[[15, 25, 50]]]], np.uint8)
    # 10 lies between 5 and 15; 20 equals one sample below 25, so it has rank 0 or 1; 30 lies below both.
    assert _spread(truth, samples).ranks().shares == pytest.approx(np.array([1.5, 1.5, 0]) / 3)


@pytest.mark.parametrize("count", [9, 10, 24])
def test_a_calibrated_space_covers_80_percent_for_any_number_of_samples(count):
    ranks = _drawn(6, 6, count).ranks()
    assert ranks.shares.sum() == pytest.approx(1)
    assert ranks.shares * (count + 1) == pytest.approx(np.ones(count + 1), abs=0.15)
    assert ranks.coverage == pytest.approx(0.8, abs=0.01)


def test_too_narrow_too_wide_and_biased_spaces_show():
    narrow, wide, biased = _drawn(6, 2, 10), _drawn(6, 12, 10), _drawn(6, 6, 10, bias=8)
    assert narrow.ranks().coverage < 0.5
    assert narrow.ranks().shares[[0, 10]].min() > 0.2
    assert wide.ranks().coverage > 0.9
    assert biased.ranks().shares[0] > 3 * biased.ranks().shares[10] + 0.1


def test_few_samples_have_no_coverage():
    assert math.isnan(TruthRanks(np.full(9, 1 / 9)).coverage)


def test_a_sample_of_another_shape_is_refused():
    spread = SampleSpread(torch.zeros(3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ShapeError, match=r"\(3, 4, 5\)"):
        spread.add(torch.zeros(3, 4, 5, dtype=torch.uint8))
    with pytest.raises(ShapeError, match="float32"):
        spread.add(torch.zeros(3, 4, 4))
