"""Shift: components are drawn by their probabilities, and a reference's shift is recognised."""

from __future__ import annotations

import pytest
import torch

from deflow_cli.inference.sampling import ImageNoise, Job, Translator
from deflow_cli.inference.shift import ShiftLaw, law_like, responsibilities
from deflow_cli.models.deflow.latent import LatentPrior
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
            result.append(model.degrade_latents(clean, noise, torch.ones(()), component_b))
    return result


def test_components_follow_their_weights_and_the_seed():
    law = ShiftLaw(small_model().prior)
    drawn = law.components(0, "a", 4000)
    assert drawn == law.components(0, "a", 4000)
    assert drawn[:50] == law.components(0, "a", 50)
    assert drawn[:50] != law.components(0, "b", 50)
    assert sum(drawn) / 4000 == pytest.approx(0.3, abs=0.03)


def test_law_matches_the_model_at_temperature_1():
    model = small_model()
    z, e = (torch.randn(2, 48, 3, 3, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    component, one = torch.tensor([0, 1]), torch.ones(2)
    law = ShiftLaw(model.prior)
    with torch.no_grad():
        assert torch.allclose(
            law.degrade([z], [e], one, component)[0],
            model.degrade_latents([z], [e], one, component)[0],
            atol=1e-5,
        )
        assert torch.allclose(
            law.restore([z], [e], one, component)[0],
            model.restore_latents([z], [e], one, component)[0],
            atol=1e-5,
        )


@pytest.mark.parametrize("component", [0, 1])
def test_reference_tells_its_component(component):
    model = small_model()
    law = law_like(model.prior, degraded_latents(model, component))
    assert law.likeliest == component
    assert float(law.probabilities[component]) > 0.99
    assert set(law.components(0, "a", 20)) == {component}


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
    law = law_like(prior, crops)
    latent = law.prior.shared()[0]
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
    law = law_like(prior, [[z]])
    naive = torch.linalg.eigvalsh(torch.cov(z[0].flatten(1)) - torch.eye(64)).clamp_min(0).sum()
    assert float(torch.trace(law.prior.shared()[0].covariance()[0].detach())) < 0.5 * float(naive)


def test_images_tell_their_own_component():
    """End to end: what was degraded with a component is recognised by its pixels."""
    model = build()
    image = smooth_images(1, 96, 96)
    translator, law = Translator(model, tile=0), ShiftLaw(model.prior)
    for component in (0, 1):
        out = torch.empty_like(image)
        job = Job(law, [ImageNoise(1, "a")], [[component]], [1.0])
        translator.translate(image, job, [0], lambda _, w, piece, out=out: out[(..., *w.slices)].copy_(piece))
        assert translator.own_component(out, ImageNoise(1, "b")) == component
