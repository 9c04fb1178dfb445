"""The start of the shift: by moments it is near the truth, and never on the stationary point M = 0."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.errors import TrainingError
from deflow_cli.models.deflow.latent import LatentPrior
from deflow_cli.models.deflow.start import LatentSample, start_constant, start_from_moments

MEAN = torch.tensor([0.5, -0.3, 0.0])
ROOT = torch.tensor([[0.8, 0.2, 0.0], [0.0, 0.5, 0.3], [0.0, 0.0, 0.0]])


def sample(generator: torch.Generator, degraded: bool, images: int = 24) -> LatentSample:
    """Latents of images: N(0, I), and with the shift where degraded."""
    result = LatentSample()
    for index in range(images):
        z, e = torch.randn((2, 1, 3, 40, 40), generator=generator).unbind()
        if degraded:
            z = z + MEAN[:, None, None] + torch.einsum("ij,bjhw->bihw", ROOT, e)
        result.add(f"{index}.png", [z], torch.rand((1, 3, 20, 20), generator=generator))
    return result


def root_gradient(prior: LatentPrior, sample: LatentSample) -> Tensor:
    latents = [torch.cat([z[0][None, :, :, None] for z in sample.latents])]
    prior.zero_grad()
    prior.log_prob_degraded(latents).mean().backward()
    gradient = prior.shared()[0].root.grad
    assert gradient is not None
    return gradient


def test_moments_recover_the_shift() -> None:
    generator = torch.Generator().manual_seed(1)
    clean, degraded = sample(generator, False), sample(generator, True)
    prior = LatentPrior([3])
    assert not root_gradient(prior, degraded).any()  # the published start stays where it is
    start_from_moments(prior, clean, degraded, generator)
    latent = prior.shared()[0]
    torch.testing.assert_close(latent.mean[0].detach(), MEAN, rtol=0, atol=0.03)
    torch.testing.assert_close(latent.covariance()[0].detach(), ROOT @ ROOT.T, rtol=0, atol=0.05)
    assert latent.spectrum()[0, 0] > 0.3
    assert root_gradient(prior, degraded).any()


@pytest.mark.parametrize("components", [1, 3])
def test_constant_start_is_off_the_stationary_point(components: int) -> None:
    prior = LatentPrior([3], components)
    start_constant(prior)
    assert (prior.shared()[0].spectrum() > 1e-4).all()
    assert root_gradient(prior, sample(torch.Generator().manual_seed(2), True, images=2)).any()


def test_moments_need_images_of_both_domains() -> None:
    generator = torch.Generator().manual_seed(3)
    some = sample(generator, True, images=1)
    for clean, degraded in ((LatentSample(), some), (some, LatentSample())):
        with pytest.raises(TrainingError, match="both domains"):
            start_from_moments(LatentPrior([3]), clean, degraded, generator)
