"""The objective: bits per dimension of images under the priors, and of pairs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.objective import (
    Objective,
    TrainingNoise,
    draw_training_noise,
    flow_inputs,
    paired_bits,
    unpaired_bits,
)
from deflow_cli.presets.reader import FIT

SETTINGS = ["flow.levels=2", "flow.steps=1", "flow.hidden_channels=8", "flow.condition_channels=8"]
SETTINGS += [
    "encoder.channels=8",
    "encoder.growth_channels=4",
    "encoder.blocks=1",
    "encoder.stacked_blocks=[0]",
]


@pytest.fixture
def model() -> DeFlow:
    return DeFlow(FIT.apply_overrides(FIT.load("tiny"), SETTINGS).model, seed=1)


def images(seed: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def noise_for(model: DeFlow, count: int = 4) -> TrainingNoise:
    return draw_training_noise(model, (count, 3, 32, 32), torch.Generator().manual_seed(7))


def test_inputs_are_dequantised_within_half_a_level(model: DeFlow) -> None:
    clean, noisy = images(1), images(2)
    x, h = flow_inputs(model, clean, noisy, noise_for(model))
    levels = model.config.flow.quantization_levels
    assert (x - torch.cat((clean, noisy))).abs().max() <= 0.5 / levels + 1e-6
    plain = torch.cat((model.condition_image(clean), model.condition_image(noisy, 1)))
    assert (h - plain).std().item() == pytest.approx(model.config.flow.h_noise, rel=0.2)


def test_bits_are_the_negative_log_likelihood_per_dimension(model: DeFlow) -> None:
    x, h = flow_inputs(model, images(1), images(2), noise_for(model))
    bits = unpaired_bits(model, x, h, 2)
    latents, log_det = model.encode(x, h)
    clean = model.prior.log_prob_clean([z[:2] for z in latents])
    noisy = model.prior.log_prob_degraded([z[2:] for z in latents])
    nats = -(torch.cat((clean, noisy)) + log_det) / (3 * 32 * 32)
    expected = (nats + math.log(model.config.flow.quantization_levels)) / math.log(2)
    torch.testing.assert_close(bits, expected)


def test_the_loss_weighs_domains_alike_and_pairs_by_their_share(model: DeFlow) -> None:
    clean, noisy, pairs = images(1), images(2), (images(3), images(4))
    plain, figures = Objective(model)(clean, noisy, noise_for(model))
    assert set(figures) == {"clean", "noisy"}
    assert torch.equal(plain, 0.5 * (figures["clean"] + figures["noisy"]))
    noise = noise_for(model)
    mixed, with_pairs = Objective(model, pair_share=0.25)(clean, noisy, noise, (*pairs, noise))
    torch.testing.assert_close(mixed, 0.75 * plain + 0.25 * with_pairs["pairs"])


def test_low_memory_changes_no_value_and_no_gradient(model: DeFlow) -> None:
    found = []
    for low in (False, True):
        model.zero_grad()
        loss, _ = Objective(model, 0.5, low_memory=low)(
            images(1), images(2), noise_for(model), (images(3), images(4), noise_for(model))
        )
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0], found[1])


def test_a_pair_is_encoded_with_the_clean_images_h(model: DeFlow) -> None:
    clean, noisy = images(3), images(4)
    bits = paired_bits(model, clean, noisy, noise_for(model))
    x, h = flow_inputs(model, clean, noisy, noise_for(model))
    (zx, _), (zy, log_det) = model.encode(x[:2], h[:2]), model.encode(x[2:], h[:2])
    expected = model.nats_to_bits_per_dim(model.pair_log_prob(zx, zy, log_det), x.shape)
    torch.testing.assert_close(bits, expected)
