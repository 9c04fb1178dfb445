"""Shift: components are drawn by their probabilities, and a reference's shift is recognised."""

from __future__ import annotations

import pytest
import torch

from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job, draw_components
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.models.deflow.latent import LatentPrior
from deflow_cli.models.deflow.shift import ShiftDistribution, responsibilities, shift_like
from tests.inference.small import build, small_model, smooth_images


def degraded_latents(model, component, positions=(8, 8), crops=4, seed=0):
    """Latents as the model says degraded images of one component have them."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for _ in range(crops):
        shape = [(1, latent.channels, *positions) for latent in model.prior.shared()]
        clean = [torch.randn(s, generator=generator) for s in shape]
        noise = [torch.randn(s, generator=generator) for s in shape]
        component_b = torch.tensor([component])
        with torch.no_grad():
            shift = ShiftDistribution(model.prior)
            result.append(shift.degrade(clean, noise, torch.ones(1), component_b))
    return result


def test_components_follow_their_weights_and_the_seed():
    shift = ShiftDistribution(small_model().prior)
    drawn = draw_components(shift, 0, "a", 4000)
    assert drawn == draw_components(shift, 0, "a", 4000)
    assert drawn[:50] == draw_components(shift, 0, "a", 50)
    assert drawn[:50] != draw_components(shift, 0, "b", 50)
    assert sum(drawn) / 4000 == pytest.approx(0.3, abs=0.03)


def random_prior(components: int = 1, diagonal: bool = False) -> LatentPrior:
    """Float64, every parameter random."""
    prior, generator = LatentPrior([4, 6], components, diagonal).double(), torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in prior.parameters():
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.7 * values)
    return prior


def normals(batch: int, side: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, c, side, side, generator=generator, dtype=torch.float64) for c in (4, 6)]


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("temperatures", [(0.8, 0.8), (1.0, 1.0), (0.0, 0.0), (0.5, 2.0)])
def test_degrading_adds_the_shift_of_each_image(components, temperatures):
    prior, z, noise = random_prior(components), normals(2, 3, 1), normals(2, 3, 5)
    component_b = torch.tensor([components - 1, 0])
    temperature_b = torch.tensor(temperatures, dtype=torch.float64)
    shift = ShiftDistribution(prior)
    moved = shift.degrade(z, noise, temperature_b, component_b)
    for latent, before, e, after in zip(prior.shared(), z, noise, moved, strict=True):
        centre = (shift.probabilities[:, None] * latent.mean).sum(0)
        for image, (k, heat) in enumerate(zip(component_b.tolist(), temperatures, strict=True)):
            mean = latent.mean[k] if components == 1 else centre + heat * (latent.mean[k] - centre)
            u = mean[:, None, None] + heat * torch.einsum("ij,jhw->ihw", latent.root[k], e[image])
            torch.testing.assert_close(after[image], (before[image] + u).detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.3])
@torch.no_grad()
def test_shift_has_its_mean_and_covariance(diagonal, temperature):
    prior, component_b = random_prior(diagonal=diagonal), torch.zeros(1, dtype=torch.long)
    still = [torch.zeros_like(z) for z in normals(1, 200, 2)]
    heat = torch.tensor([temperature], dtype=torch.float64)
    moved = ShiftDistribution(prior).degrade(still, normals(1, 200, 2), heat, component_b)
    for latent, u in zip(prior.shared(), moved, strict=True):
        flat = u[0].flatten(1)
        expected = temperature**2 * latent.covariance()[0]
        scale = float(expected.abs().max()) + 1e-12
        # sampling error of 40000 draws: about 1 / 200 of a standard deviation
        torch.testing.assert_close(flat.mean(1), latent.mean[0], rtol=0, atol=0.03 * scale**0.5)
        torch.testing.assert_close(torch.cov(flat), expected, rtol=0, atol=0.04 * scale)


@torch.no_grad()
def test_degraded_samples_have_the_domains_moments():
    prior, component_b, one = random_prior(diagonal=True), torch.zeros(1, dtype=torch.long), torch.ones(1)
    z_x, e = normals(1, 150, 3), normals(1, 150, 4)
    samples = ShiftDistribution(prior).degrade(z_x, e, one, component_b)
    for latent, clean, noise, z in zip(prior.shared(), z_x, e, samples, strict=True):
        mean, root = latent.mean[0][:, None, None], latent.root[0][:, None, None]
        torch.testing.assert_close(z, clean + mean + root * noise, rtol=1e-10, atol=1e-10)
        flat, variance = z[0].flatten(1), 1 + latent.root[0].square()
        torch.testing.assert_close(flat.mean(1), latent.mean[0], rtol=0, atol=0.04)
        torch.testing.assert_close(flat.var(1), variance, rtol=0.05, atol=0)


@torch.no_grad()
def test_restoring_undoes_degrading_in_distribution():
    """Clean latents, degraded and restored, are N(0, I) again; at T = 0 they are the posterior mean."""
    prior, component_b, one = random_prior(), torch.zeros(1, dtype=torch.long), torch.ones(1)
    shift = ShiftDistribution(prior)
    z_y = shift.degrade(normals(1, 200, 6), normals(1, 200, 7), one, component_b)
    restored = shift.restore(z_y, normals(1, 200, 8), one, component_b)
    means = shift.restore(z_y, None, 0 * one, component_b)
    for latent, degraded, sample, mean in zip(prior.shared(), z_y, restored, means, strict=True):
        flat, eye = sample[0].flatten(1), torch.eye(latent.channels, dtype=torch.float64)
        torch.testing.assert_close(flat.mean(1), 0 * flat[:, 0], rtol=0, atol=0.03)
        torch.testing.assert_close(torch.cov(flat), eye, rtol=0, atol=0.04)
        inverse = torch.linalg.inv(eye + latent.covariance()[0])
        centred = degraded - latent.mean[0][:, None, None]
        expected = torch.einsum("ij,bjhw->bihw", inverse, centred)
        torch.testing.assert_close(mean, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("component", [0, 1])
def test_reference_tells_its_component(component):
    model = small_model()
    shift = shift_like(model.prior, degraded_latents(model, component))
    assert shift.likeliest == component
    assert float(shift.probabilities[component]) > 0.99
    assert set(draw_components(shift, 0, "a", 20)) == {component}


def test_responsibilities_are_averaged_over_crops():
    model = small_model()
    mixed = degraded_latents(model, 0, crops=3) + degraded_latents(model, 1, crops=1)
    assert responsibilities(model.prior, mixed).tolist() == pytest.approx([0.75, 0.25], abs=0.01)


def test_single_component_is_estimated_anew_from_the_reference():
    """From 8192 positions a known mean and covariance come back, where the model says something else."""
    prior = LatentPrior([6])
    prior.shared()[0].set_moments(0, torch.zeros(6), 0.01 * torch.eye(6))
    true_mean = torch.linspace(-0.5, 0.5, 6)
    root = torch.randn(6, 2, generator=torch.Generator().manual_seed(2))
    crops = []
    for seed in range(8):
        generator = torch.Generator().manual_seed(10 + seed)
        z, e = torch.randn(6, 1024, generator=generator), torch.randn(2, 1024, generator=generator)
        crops.append([(z + true_mean[:, None] + root @ e).reshape(1, 6, 32, 32)])
    shift = shift_like(prior, crops)
    latent = shift.prior.shared()[0]
    assert float((latent.mean[0].detach() - true_mean).abs().max()) < 0.1
    error = torch.linalg.norm(latent.covariance()[0].detach() - root @ root.T) / torch.linalg.norm(
        root @ root.T
    )
    assert float(error) < 0.1
    assert float(prior.shared()[0].mean.detach().abs().max()) == 0  # the model itself is untouched


def test_pure_clean_reference_gives_almost_no_shift():
    """Sampling error alone must not count as variance: 64 channels, 512 positions."""
    prior = LatentPrior([64])
    z = torch.randn(1, 64, 16, 32, generator=torch.Generator().manual_seed(0))
    shift = shift_like(prior, [[z]])
    naive = torch.linalg.eigvalsh(torch.cov(z[0].flatten(1)) - torch.eye(64)).clamp_min(0).sum()
    assert float(torch.trace(shift.prior.shared()[0].covariance()[0].detach())) < 0.5 * float(naive)


def test_images_tell_their_own_component():
    """End to end: what was degraded with a component is recognised by its pixels."""
    model = build()
    image = smooth_images(1, 96, 96)
    translator, shift = Translator(model, tile=0), ShiftDistribution(model.prior)
    for component in (0, 1):
        out = torch.empty_like(image)
        job = Job(shift, [ImageNoise(1, "a")], [[component]], [1.0])
        translator.translate(image, job, [0], lambda _, w, piece, out=out: out[(..., *w.slices)].copy_(piece))
        assert translator.own_component(out, ImageNoise(1, "b")) == component
