"""SRFlow's objective: its noise, its loss, and the figure that published trainings report."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.models.srflow.objective import (
    DequantisationNoise,
    SRFlowObjective,
    as_latents,
    consistency_error,
    dequantised,
    draw_dequantisation,
    published_nll,
    texture_error,
)
from tests.models.srflow.test_model import images, small


def test_noise_is_of_the_kind_asked_for() -> None:
    y = torch.zeros(64, 3, 8, 8)
    noise = draw_dequantisation(y.shape, torch.Generator().manual_seed(1))
    uniform, told = dequantised(small(noise="uniform", noise_levels=32), y, noise)
    assert told is None
    assert uniform.abs().max() <= 0.5 / 32
    assert uniform.std().item() == pytest.approx(1 / 32 / math.sqrt(12), rel=0.02)
    gaussian, told = dequantised(small(noise="gaussian", noise_std=2.309), y, noise)
    assert told is None
    assert gaussian.std().item() * 255 == pytest.approx(2.309, rel=0.02)
    drawn, told = dequantised(small(noise="strength", noise_std=10.0), y, noise)
    assert told is not None
    expected = ((10 / 255 * told) ** 2 + 1 / 256**2 / 12).sqrt()
    ratio = drawn.flatten(1).std(1) / expected
    assert ratio.mean().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(dequantised(small(noise="none"), y, noise)[0], y)


def test_loss_is_the_mean_of_bits_and_the_option_adds_the_mild_image_error() -> None:
    model = small(noise="uniform")
    y, x = images()
    noise = draw_dequantisation(y.shape, torch.Generator().manual_seed(2))
    loss, figures = SRFlowObjective(model)(y, x, noise)
    noisy, _ = dequantised(model, y, noise)
    expected = model.bits_per_dim(model.log_prob(noisy, x, model.prepare(x)), y[0].numel()).mean()
    torch.testing.assert_close(loss, expected)
    assert set(figures) == {"bits"}
    both, figures = SRFlowObjective(model, l1=0.5)(y, x, noise)
    conditions = model.prepare(x)
    mild = model.decode([torch.zeros_like(z) for z in model.encode(y, x, conditions)[0]], x, conditions)
    torch.testing.assert_close(both, loss + 0.5 * (mild - y).abs().mean())
    assert set(figures) == {"bits", "l1"}


def test_published_figure_is_per_pixel_position() -> None:
    log_prob = torch.tensor([-6.0 * math.log(2.0)])
    assert published_nll(log_prob, 2, 3).item() == pytest.approx(1.0)
    assert published_nll(log_prob, 2, 3, levels=32).item() == pytest.approx(1.0 + 5.0)


def test_texture_error_sees_strength_and_place_of_detail() -> None:
    random = torch.Generator().manual_seed(3)
    flat = torch.full((2, 3, 32, 32), 0.5)
    detail = 0.05 * torch.randn(flat.shape, generator=random)
    half = detail.clone()
    half[..., :16] = 0
    true = flat + detail
    assert texture_error(true, true) == 0
    same_strength = texture_error(flat + detail.flip(0), true)
    weaker, stronger = (texture_error(flat + k * detail, true) for k in (0.5, 2.0))
    elsewhere = texture_error(flat + 2**0.5 * half, true)  # the same energy, in one half of the image
    assert same_strength < 0.03
    assert min(weaker, stronger, elsewhere) > 10 * same_strength
    assert texture_error(flat, true) > weaker


def test_texture_error_asks_for_the_energy_of_each_image() -> None:
    random = torch.Generator().manual_seed(4)
    detail = 0.05 * torch.randn(2, 3, 32, 32, generator=random)
    strength = torch.tensor([1.5, 0.5]).sqrt().view(2, 1, 1, 1)
    uneven = strength * detail  # all in all of the same energy
    assert texture_error(0.5 + uneven, 0.5 + detail) > 0.2
    assert texture_error(0.5 + detail, 0.5 + detail) == 0


def test_consistency_error_is_blind_to_detail_that_vanishes_when_made_small() -> None:
    random = torch.Generator().manual_seed(5)
    y = torch.rand(2, 3, 32, 32, generator=random)
    brighter = y + 2 / 255
    torch.testing.assert_close(consistency_error(brighter, y, 4).item(), 4.0, rtol=1e-3, atol=0)
    checks = torch.tensor([1.0, -1.0]).repeat(16)
    detailed = y + 2 / 255 * checks[:, None] * checks
    assert consistency_error(detailed, y, 4) < 0.05


def sampled(model: SRFlow, y: Tensor, x: Tensor, noise: DequantisationNoise) -> list[Tensor]:
    """Samples of z and -z at temperature 0.5 and that of 0, of every fourth image, decoded one by one."""
    shapes = [torch.Size(shape) for shape in model.latent_shapes(*x.shape[-2:])]
    draws = as_latents(noise.latent[::4], shapes)
    conditions = model.prepare(x[::4])
    return [model.decode([factor * z for z in draws], x[::4], conditions) for factor in (0.5, -0.5, 0.0)]


def five_images() -> tuple[SRFlow, Tensor, Tensor, DequantisationNoise]:
    y, x = images(height=4, width=4, batch=5)
    noise = draw_dequantisation(y.shape, torch.Generator().manual_seed(2))
    noise = noise._replace(uniform=noise.uniform.double(), latent=noise.latent.double())
    return small(noise="uniform"), y, x, noise


def test_texture_is_of_what_depends_on_the_latents() -> None:
    model, y, x, noise = five_images()
    loss, figures = SRFlowObjective(model, texture=2.0, temperature=0.5)(y, x, noise)
    one, opposite, mild = sampled(model, y, x, noise)
    expected = texture_error((one - opposite) / 2, (y[::4] - mild).detach())
    torch.testing.assert_close(figures["texture"], expected)
    torch.testing.assert_close(loss, figures["bits"] + 2 * figures["texture"])
    assert set(figures) == {"bits", "texture"}
    loss.backward()
    assert model.flow.layers[1].actnorm.logs.grad is not None


def test_texture_does_not_move_the_mild_image() -> None:
    """The mild image decides what detail is asked for, and is not made worse to be asked for less."""
    model, y, x, noise = five_images()
    _, figures = SRFlowObjective(model, texture=1.0, temperature=0.0)(y, x, noise)
    figures["texture"].backward()  # samples are the mild image: they add nothing, whatever it is
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.abs().max() < 1e-12 for gradient in gradients)


def test_mild_images_and_consistency_are_of_the_images_that_samples_are_drawn_for() -> None:
    model, y, x, noise = five_images()
    objective = SRFlowObjective(model, l1=2.0, texture=3.0, consistency=0.5, temperature=0.5)
    loss, figures = objective(y, x, noise)
    one, opposite, mild = sampled(model, y, x, noise)
    torch.testing.assert_close(figures["l1"], (mild - y[::4]).abs().mean())
    samples, true = torch.cat([one, opposite]), torch.cat([y[::4], y[::4]])
    torch.testing.assert_close(figures["consistency"], consistency_error(samples, true, model.scale))
    expected = figures["bits"] + 2 * figures["l1"] + 3 * figures["texture"] + 0.5 * figures["consistency"]
    torch.testing.assert_close(loss, expected)
    assert set(figures) == {"bits", "l1", "texture", "consistency"}


def test_numbers_of_an_image_are_those_of_its_latents() -> None:
    model = small(splits="all")
    values = torch.arange(2 * 3 * 8 * 8.0).reshape(2, 3, 8, 8)
    latents = as_latents(values, [torch.Size(shape) for shape in model.latent_shapes(4, 4)])
    assert torch.equal(torch.cat([z.flatten(1) for z in latents], dim=1), values.flatten(1))
