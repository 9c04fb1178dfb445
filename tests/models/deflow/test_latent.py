"""The shared latent: densities and posteriors against torch.distributions and explicit inverses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from deflow_cli.models.deflow.latent import LatentPrior, SharedLatent, factorised
from tests.golden.tolerances import tolerance

C, SHAPE = 4, (3, 4, 2, 5)
ONE = torch.ones((), dtype=torch.float64)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@torch.no_grad()
def filled(module: torch.nn.Module, generator: torch.Generator) -> None:
    module.double()
    for parameter in module.parameters():
        parameter.copy_(0.7 * normal(generator, *parameter.shape))


def shared(generator: torch.Generator, components: int = 1, diagonal: bool = False) -> SharedLatent:
    latent = SharedLatent(C, components, diagonal)
    filled(latent, generator)
    return latent


def density(latent: SharedLatent, k: int) -> MultivariateNormal:
    """N(mu, I + M M^T) of one component, M written out."""
    root = torch.diag(latent.root[k]) if latent.diagonal else latent.root[k]
    covariance = torch.eye(C, dtype=torch.float64) + root @ root.T
    return MultivariateNormal(latent.mean[k], covariance)


def by_position(z_bchw: Tensor) -> Tensor:
    return z_bchw.permute(0, 2, 3, 1)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance("latent"), atol=tolerance("latent"))


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("components", [1, 3])
def test_degraded_log_density(components: int, diagonal: bool, generator: torch.Generator) -> None:
    latent, z = shared(generator, components, diagonal), 2 * normal(generator, *SHAPE)
    expected = [density(latent, k).log_prob(by_position(z)).sum((1, 2)) for k in range(components)]
    close(latent.log_prob_degraded(z), torch.stack(expected, dim=1))


def test_clean_log_density_and_labels(generator: torch.Generator) -> None:
    prior = LatentPrior([C, 2])
    filled(prior, generator)
    latents = [normal(generator, *SHAPE), normal(generator, 3, 2, 1, 1)]
    clean = sum(Normal(0.0, 1.0).log_prob(z).flatten(1).sum(1) for z in latents)
    degraded = sum(p.log_prob_degraded(z)[:, 0] for p, z in zip(prior.shared(), latents, strict=True))
    assert isinstance(clean, Tensor)
    assert isinstance(degraded, Tensor)
    close(prior.log_prob_clean(latents), clean)
    for labels in ([0, 1, 0], [1, 1, 1], [0, 0, 0]):
        chosen = torch.tensor(labels)
        close(prior.log_prob(latents, chosen), torch.where(chosen.bool(), degraded, clean))


def test_mixture_has_one_component_per_image(generator: torch.Generator) -> None:
    prior = LatentPrior([C, 2], components=3)
    filled(prior, generator)
    latents = [normal(generator, *SHAPE), normal(generator, 3, 2, 1, 1)]
    weights = torch.softmax(prior.weight_logits, dim=0)
    close(prior.log_weights().exp(), weights)
    joint = torch.zeros(3, 3, dtype=torch.float64)  # images x components: summed before the mixture
    for latent, z in zip(prior.shared(), latents, strict=True):
        joint = joint + latent.log_prob_degraded(z)
    likelihood = (weights * joint.exp()).sum(1)
    close(prior.log_prob_degraded(latents), likelihood.log())
    close(prior.responsibilities(latents), weights * joint.exp() / likelihood[:, None])
    # far from every component the sum of exponentials underflows; the logarithm must not
    far = [100 * z for z in latents]
    assert torch.isfinite(prior.log_prob_degraded(far)).all()
    close(prior.responsibilities(far).sum(1), torch.ones(3, dtype=torch.float64))


def test_one_component_needs_no_weights(generator: torch.Generator) -> None:
    assert not LatentPrior([C]).weight_logits.requires_grad
    assert LatentPrior([C], components=2).weight_logits.requires_grad


@pytest.mark.parametrize("diagonal", [False, True])
def test_posterior_against_explicit_inverses(diagonal: bool, generator: torch.Generator) -> None:
    latent = shared(generator, 2, diagonal)
    gain, root = latent.posterior_matrices()
    for k in range(2):
        matrix = torch.diag(latent.root[k]) if diagonal else latent.root[k]
        c = matrix @ matrix.T
        inverse = torch.linalg.inv(torch.eye(C, dtype=torch.float64) + c)
        close(gain[k], inverse)
        close(root[k] @ root[k].T, c @ inverse)
    # Bayes: p(z_x) p(z_y | z_x) / p(z_y) is the posterior's density
    z_x, z_y = normal(generator, C), normal(generator, C)
    eye = torch.eye(C, dtype=torch.float64)
    prior = MultivariateNormal(torch.zeros(C, dtype=torch.float64), eye)
    covariance = latent.covariance()[0]
    likelihood = MultivariateNormal(z_x + latent.mean[0], covariance)
    posterior = MultivariateNormal(gain[0] @ (z_y - latent.mean[0]), root[0] @ root[0].T)
    close(
        posterior.log_prob(z_x),
        prior.log_prob(z_x) + likelihood.log_prob(z_y) - density(latent, 0).log_prob(z_y),
    )


def test_posterior_of_a_shift_without_randomness(generator: torch.Generator) -> None:
    latent = shared(generator)
    with torch.no_grad():
        latent.root.zero_()
    gain, root = latent.posterior_matrices()
    close(gain[0], torch.eye(C, dtype=torch.float64))
    assert not root.any()


def test_spectrum(generator: torch.Generator) -> None:
    for diagonal in (False, True):
        latent = shared(generator, 2, diagonal)
        expected = torch.linalg.eigvalsh(latent.covariance()).flip(1)
        close(latent.spectrum(), expected)


@torch.no_grad()
def test_set_moments_takes_the_positive_part(generator: torch.Generator) -> None:
    vectors = torch.linalg.qr(normal(generator, C, C))[0]
    values = torch.tensor([2.0, 0.5, 0.0, -0.3], dtype=torch.float64)
    mean, covariance = normal(generator, C), vectors @ torch.diag(values) @ vectors.T
    latent = shared(generator, 2)
    untouched = latent.root[0].clone()
    latent.set_moments(1, mean, covariance)
    close(latent.mean[1], mean)
    close(latent.covariance()[1], vectors @ torch.diag(values.clamp_min(0)) @ vectors.T)
    assert torch.equal(latent.root[0], untouched)
    diagonal = shared(generator, 1, diagonal=True)
    diagonal.set_moments(0, mean, covariance)
    close(diagonal.covariance()[0], torch.diag(covariance.diagonal().clamp_min(0)))


@pytest.mark.parametrize("diagonal", [False, True])
def test_no_randomness_is_a_stationary_point(diagonal: bool, generator: torch.Generator) -> None:
    """At M = 0 the gradient is exactly 0, whatever the data; anywhere else it points to the data."""
    z = normal(generator, *SHAPE) * 3.0
    latent = shared(generator, 1, diagonal)
    with torch.no_grad():
        latent.root.zero_()
    latent.log_prob_degraded(z).sum().backward()
    assert latent.root.grad is not None
    assert not latent.root.grad.any()
    assert latent.mean.grad is not None
    assert latent.mean.grad.abs().min() > 0
    latent.zero_grad()
    with torch.no_grad():
        latent.set_moments(0, torch.zeros(C).double(), 0.01 * torch.eye(C).double())
    latent.log_prob_degraded(z).sum().backward()
    # the data are wider than I + 0.01 I: the likelihood rises with M
    assert float((latent.root.grad * latent.root.detach()).sum()) > 1.0


def test_factorised_is_cholesky_and_nan_where_there_is_none(generator: torch.Generator) -> None:
    root = normal(generator, 3, C, C)
    good = (torch.eye(C) + root @ root.mT).requires_grad_()
    factor, log_det = factorised(good)
    expected = torch.linalg.cholesky(good)
    assert torch.equal(factor, expected)
    assert torch.equal(log_det, 2.0 * torch.diagonal(expected, dim1=1, dim2=2).log().sum(1))
    weight = normal(generator, 3, C, C)
    ours, theirs = (
        torch.autograd.grad((f * weight).sum() + f.diagonal(dim1=1, dim2=2).log().sum(), good)[0]
        for f in (factorised(good)[0], torch.linalg.cholesky(good))
    )
    assert torch.equal(ours, theirs)
    bad = good.detach().clone()
    bad[1, 0, 0] = -1.0
    bad[2, 0, 0] = float("nan")
    _, log_det = factorised(bad)
    assert log_det.isnan().tolist() == [False, True, True]
    prior = LatentPrior([C], components=2)
    filled(prior, generator)
    with torch.no_grad():
        prior.shared()[0].root[1] = float("nan")
    assert prior.log_prob_degraded([normal(generator, *SHAPE)]).isnan().all()
