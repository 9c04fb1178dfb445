"""Losses: against values by hand."""

from __future__ import annotations

import math

import pytest
import torch

from deflow_cli.models.translation import losses


def test_log_losses_are_not_halved_and_end_where_the_logarithm_would_not():
    real, fake = torch.tensor([0.9, 0.6]), torch.tensor([0.2, 0.5])
    expected = -(math.log(0.9) + math.log(0.6)) / 2 - (math.log(0.8) + math.log(0.5)) / 2
    assert losses.log_discriminator_loss(real, fake).item() == pytest.approx(expected, rel=1e-6)
    expected = -(math.log(0.2) + math.log(0.5)) / 2
    assert losses.log_generator_loss(fake).item() == pytest.approx(expected, rel=1e-6)
    assert losses.log_generator_loss(torch.zeros(1)).item() == pytest.approx(-math.log(1e-8), rel=1e-6)


def test_least_squares():
    real, fake = torch.tensor([0.5, 1.5]), torch.tensor([1.0, -1.0])
    assert losses.squares_discriminator_loss(real, fake).item() == pytest.approx(0.5 * (0.25 + 1.0))
    assert losses.squares_generator_loss(fake).item() == pytest.approx((0 + 4) / 2)


def test_colour_and_cycle():
    first, second = torch.tensor([0.0, 0.5]), torch.tensor([0.25, 0.0])
    assert losses.colour_loss(first, second).item() == pytest.approx(0.375)
    assert losses.cycle_loss(first, second).item() == pytest.approx(0.75)  # the scale is [-1, 1]


def test_eight_bits_round_to_the_nearest():
    values = torch.tensor([-0.1, 0.0, 100.4 / 255, 100.6 / 255, 1.2])
    assert (losses.eight_bits(values) * 255).round().tolist() == [0, 0, 100, 101, 255]
