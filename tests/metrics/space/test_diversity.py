"""Diversity score: the public tool's figures on the challenge's pictures, by LPIPS and by squared error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.data.images.resize import downsample
from deflow_cli.errors import ShapeError
from deflow_cli.metrics.quality.fidelity import psnr
from deflow_cli.metrics.quality.lpips import Lpips
from deflow_cli.metrics.quality.spatial_lpips import SpatialLpips
from deflow_cli.metrics.space.diversity import SampleDistances, centred, windowed_squared_error
from tests.golden.tolerances import tolerance
from tests.metrics.space import challenge
from tests.metrics.space.challenge import tensor


def test_pictures_are_those_that_the_figures_are_of():
    assert challenge.truth().sum() == 2_436_710
    sums = [int(challenge.sample(k).sum()) for k in range(challenge.SAMPLES)]
    assert sums == [2_436_464, 2_436_751, 2_438_417, 2_435_876]


def test_spatial_lpips_reproduces_the_challenge():
    distance = SpatialLpips(Lpips(challenge.alexnet()), tensor(challenge.truth()))
    distances, plain = SampleDistances(), []
    for k in range(challenge.SAMPLES):
        found = distance(tensor(challenge.sample(k)))
        plain.append(found.plain)
        distances.add(found.map_hw)
    assert distances.means == pytest.approx(challenge.SPATIAL_LPIPS, rel=tolerance("space.lpips"))
    assert plain == pytest.approx(challenge.PLAIN_LPIPS, rel=tolerance("space.lpips"))
    score = distances.score()
    assert score.mean == pytest.approx(challenge.LPIPS_MEAN, rel=tolerance("space.lpips"))
    assert score.global_best == pytest.approx(challenge.LPIPS_GLOBAL, rel=tolerance("space.lpips"))
    assert score.local_best == pytest.approx(challenge.LPIPS_LOCAL, rel=tolerance("space.lpips"))
    assert score.percent == pytest.approx(challenge.LPIPS_SCORE, abs=tolerance("space.score"))


def test_squared_error_reproduces_the_challenge():
    distances = SampleDistances()
    truth = tensor(challenge.truth())
    for k in range(challenge.SAMPLES):
        distances.add(windowed_squared_error(tensor(challenge.sample(k)), truth))
    assert distances.means == pytest.approx(challenge.SQUARED_ERROR, rel=tolerance("space.error"))
    score = distances.score()
    assert score.global_best == pytest.approx(challenge.ERROR_GLOBAL, rel=tolerance("space.error"))
    assert score.local_best == pytest.approx(challenge.ERROR_LOCAL, rel=tolerance("space.error"))
    assert score.percent == pytest.approx(challenge.ERROR_SCORE, abs=tolerance("space.score"))


def test_psnr_and_that_of_the_low_resolutions_reproduce_the_challenge():
    truth, samples = challenge.truth(), [challenge.sample(k) for k in range(challenge.SAMPLES)]
    # The challenge's tool rounds halves to even; MATLAB's own rule gives up to 0.02 dB less here.
    small = tensor(downsample(truth, challenge.SCALE, "deflow"))[None]
    lows = [tensor(downsample(one, challenge.SCALE, "deflow"))[None] for one in samples]
    lr_psnr = [float(psnr(low, small)) for low in lows]
    assert lr_psnr == pytest.approx(challenge.LR_PSNR, abs=tolerance("space.psnr"))
    assert np.mean(lr_psnr) == pytest.approx(challenge.LR_PSNR_MEAN, abs=tolerance("space.psnr"))
    assert min(lr_psnr) == pytest.approx(challenge.LR_PSNR_WORST, abs=tolerance("space.psnr"))
    full = [float(psnr(tensor(s)[None], tensor(truth)[None])) for s in samples]
    assert full == pytest.approx(challenge.PSNR, abs=tolerance("space.psnr"))


def test_more_samples_raise_the_score_and_equal_ones_do_not():
    distances = SampleDistances()
    for values in ([[4.0, 2.0]], [[2.0, 4.0]], [[2.0, 4.0]]):
        distances.add(torch.tensor(values))
    assert [score.percent for score in distances.scores] == pytest.approx([0, 100 / 3, 100 / 3])
    assert [score.samples for score in distances.scores] == [1, 2, 3]


def test_a_sample_that_is_the_truth_leaves_nothing_to_gain():
    distances = SampleDistances()
    distances.add(torch.zeros(2, 2))
    distances.add(torch.ones(2, 2))
    assert distances.score().percent == 0


def test_a_windows_centre_is_its_pixel():
    image, reference = torch.zeros(3, 40, 50), torch.zeros(3, 40, 50)
    image[:, 20, 30] = 16
    full = windowed_squared_error(image, reference)
    assert full.shape == (55, 65)
    inner = centred(full, 40, 50)
    assert inner.shape == (40, 50)
    rows, columns = (torch.unique(found) for found in torch.nonzero(inner > 0.5, as_tuple=True))
    assert (int(rows.min()), int(rows.max())) == (13, 28)
    assert (int(columns.min()), int(columns.max())) == (23, 38)
    assert float(full.sum()) == pytest.approx(256.0)


def test_maps_and_images_of_other_sizes_are_refused():
    distances = SampleDistances()
    distances.add(torch.zeros(2, 2))
    with pytest.raises(ShapeError, match="differ"):
        distances.add(torch.zeros(2, 3))
    with pytest.raises(ShapeError, match="one C x H x W"):
        windowed_squared_error(torch.zeros(3, 4, 4), torch.zeros(3, 4, 5))
