"""Frequencies: filters against sums by hand."""

from __future__ import annotations

import math

import pytest
import torch

from deflow_cli.errors import ConfigError
from deflow_cli.models.translation.frequencies import FrequencySplit, haar_bands


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 3, 8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_averages_are_of_whole_windows_below_and_of_what_is_inside_above(image):
    split = FrequencySplit("average")
    low, high = split.low(image), split.high(image)
    assert low.shape == (1, 3, 4, 6)
    assert low[0, 1, 2, 3].item() == pytest.approx(image[0, 1, 2:7, 3:8].mean().item())
    assert high.shape == image.shape
    inside = image[0, 2, 0:3, 0:4].mean().item()  # around the pixel (0, 1), three rows and four columns are
    assert high[0, 2, 0, 1].item() == pytest.approx(0.5 + 0.5 * (image[0, 2, 0, 1].item() - inside))


def test_the_gaussian_takes_nothing_from_outside():
    image = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    image[0, 0, 4, 4] = 1.0
    split = FrequencySplit("gaussian")
    weights = [math.exp(-(k**2) / (2 * (5 / 6) ** 2)) for k in range(-2, 3)]
    total = sum(weights) ** 2
    assert split.low(image)[0, 0, 2, 2].item() == pytest.approx(1 / total)
    assert split.low(image)[0, 0, 1, 2].item() == pytest.approx(weights[1] / total)
    assert split.high(image)[0, 0, 4, 4].item() == pytest.approx(0.5 + 0.5 * (1 - 1 / total))
    # of a white picture, the corner's Gaussian sees three of five rows and columns
    white = split.high(torch.ones(1, 1, 9, 9, dtype=torch.float64))
    part = (sum(weights[2:]) / sum(weights)) ** 2
    assert white[0, 0, 0, 0].item() == pytest.approx(0.5 + 0.5 * (1 - part))
    assert white[0, 0, 4, 4].item() == pytest.approx(0.5)


def test_haar_bands_by_hand():
    image = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])
    assert [band.item() for band in haar_bands(image)] == [5.5, -2.5, -1.5, 0.5]
    split = FrequencySplit("wavelet")
    assert split.low(image).item() == image.mean().item()
    assert split.high(image).flatten().tolist() == [-0.75, -0.25, 0.75]
    assert split.high(torch.rand(2, 3, 8, 12)).shape == (2, 9, 4, 6)
    assert split.high_channels == 9


def test_haar_bands_keep_the_energy_and_mirror_odd_sides(image):
    energy = sum(band.square().sum() for band in haar_bands(image))
    assert energy.item() == pytest.approx(image.square().sum().item())
    odd = torch.arange(9.0).view(1, 1, 3, 3)
    assert haar_bands(odd)[0][0, 0, 1, 1].item() == pytest.approx((8 + 7 + 5 + 4) / 2)


def test_an_unknown_one_is_told():
    with pytest.raises(ConfigError, match="'fourier' is unknown"):
        FrequencySplit("fourier")
