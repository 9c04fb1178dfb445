"""Degradations that lose detail: A comes back from the moments; likelihood, samples and posterior have it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.config.model import FlowConfig
from deflow_cli.errors import ConfigError
from deflow_cli.models.deflow.gain import LEAST, contraction
from deflow_cli.models.deflow.latent import LatentPrior, SharedLatent
from deflow_cli.models.deflow.moments import LatentSample, start_from_moments
from deflow_cli.models.deflow.shift import ShiftDistribution

C = 4
ONE = torch.ones((), dtype=torch.float64)


def symmetric(values: list[float], seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(C, C, generator=random, dtype=torch.float64))[0]
    return (axes * torch.tensor(values, dtype=torch.float64)) @ axes.T


GAIN, NOISE = symmetric([0.3, 0.5, 0.9, 1.0]), symmetric([0.6, 0.1, 0.3, 0.02], seed=1)


def samples(gain: Tensor, noise: Tensor, mean: Tensor, count: int = 60) -> tuple[LatentSample, LatentSample]:
    """Clean and degraded images of other scenes: flat columns on the left, ever more detail to the right."""
    random = torch.Generator().manual_seed(3)
    root = torch.linalg.cholesky(noise + 1e-12 * torch.eye(C)).float()
    ramp = torch.linspace(0.4, 2.5, 32)
    result = (LatentSample(), LatentSample())
    for index in range(2 * count):
        z = ramp * torch.randn(1, C, 32, 32, generator=random)
        h = 0.2 * ramp * torch.randn(1, 3, 32, 32, generator=random)
        if index % 2:
            u = torch.einsum("ij,bjhw->bihw", root, torch.randn(z.shape, generator=random))
            z = torch.einsum("ij,bjhw->bihw", gain.float(), z) + u + mean[:, None, None]
        result[index % 2].add(f"{index:03d}", [z], h)
    return result


def contracting(components: int = 1, diagonal: bool = False) -> SharedLatent:
    latent = SharedLatent(C, components, diagonal, contracts=True).double()
    latent.set_gain(GAIN)
    for k in range(components):
        latent.set_moments(k, 0.1 * (k + 1) * torch.ones(C, dtype=torch.float64), (k + 1) * NOISE)
    return latent


def test_lost_detail_and_noise_come_back() -> None:
    mean = torch.tensor([0.2, -0.1, 0.0, 0.3])
    prior = LatentPrior([C], contracts=True)
    start_from_moments(prior, *samples(GAIN, NOISE, mean), torch.Generator().manual_seed(0))
    latent = prior.shared()[0]
    assert latent.gain is not None
    assert float((latent.gain.double() - GAIN).norm() / GAIN.norm()) < 0.06
    assert float((latent.covariance()[0].detach() - NOISE).norm() / NOISE.norm()) < 0.1
    assert float((latent.mean[0].detach() - mean).norm()) < 0.05

    plain = LatentPrior([C])  # without gains noise goes missing where detail does
    start_from_moments(plain, *samples(GAIN, NOISE, mean), torch.Generator().manual_seed(0))
    missing = float(torch.trace(plain.shared()[0].covariance()[0].detach() - NOISE.float()))
    assert missing < -0.15 * float(torch.trace(NOISE))


def test_noise_alone_leaves_all_detail() -> None:
    prior = LatentPrior([C], contracts=True)
    eye = torch.eye(C, dtype=torch.float64)
    start_from_moments(prior, *samples(eye, 4 * NOISE, torch.zeros(C)), torch.Generator().manual_seed(0))
    assert prior.shared()[0].gain is not None
    assert float(torch.linalg.eigvalsh(prior.shared()[0].gain).min()) > 0.95


def level(variances: list[float], spread: float = 0.0) -> Tensor:
    """Variances per stratum, the same along all directions, of 10 groups that differ by ``spread``."""
    leave_one_out = 1 + spread * torch.linspace(-1, 1, 10, dtype=torch.float64)
    factors = torch.cat((torch.ones(1, dtype=torch.float64), leave_one_out))
    return factors[:, None, None] * torch.tensor(variances, dtype=torch.float64)[:, None].expand(-1, C)


def test_strata_that_do_not_differ_say_nothing() -> None:
    """Less variance in one stratum alone could be lost detail or another scene: the prior keeps A = I."""
    gain = contraction(torch.eye(C, dtype=torch.float64), level([2.0]), level([3.0]))
    torch.testing.assert_close(gain, torch.eye(C, dtype=torch.float64))


def test_what_vanishes_keeps_a_density() -> None:
    gain = contraction(torch.eye(C, dtype=torch.float64), level([0.1, 1.0, 4.0]), level([1e-9] * 3))
    assert float(torch.linalg.eigvalsh(gain).min()) >= LEAST - 1e-9
    assert float(torch.linalg.eigvalsh(gain).max()) < 0.25


def test_a_loss_within_its_error_is_none() -> None:
    eye = torch.eye(C, dtype=torch.float64)
    before, after = [0.1, 1.0, 4.0], [0.2, 0.8, 2.7]
    sure = contraction(eye, level(before), level(after))
    unsure = contraction(eye, level(before), level(after, spread=0.3))
    assert float(sure.max()) < 0.9
    torch.testing.assert_close(unsure, eye)


@pytest.mark.parametrize(("clean_photos", "noisy_photos"), [(3, 3), (8, 5), (60, 60)])
def test_other_scenes_do_not_pass_for_lost_detail(clean_photos: int, noisy_photos: int) -> None:
    """Photographs that differ in their texture, noise alone: few of them must not look blurred."""
    random = torch.Generator().manual_seed(5)
    sample = (LatentSample(), LatentSample())
    ramp = torch.linspace(0.4, 2.5, 32)
    for domain, count in enumerate((clean_photos, noisy_photos)):
        for index in range(count):
            texture = float(torch.exp(0.5 * torch.randn((), generator=random)))
            for _ in range(max(1, 60 // count)):
                z = texture * ramp * torch.randn(1, C, 32, 32, generator=random)
                h = 0.2 * ramp * torch.randn(1, 3, 32, 32, generator=random)
                z = z + 0.3 * domain * torch.randn(z.shape, generator=random)
                sample[domain].add(f"{index:03d}", [z], h)
    prior = LatentPrior([C], contracts=True)
    start_from_moments(prior, *sample, torch.Generator().manual_seed(0))
    assert prior.shared()[0].gain is not None
    assert float(torch.linalg.eigvalsh(prior.shared()[0].gain).min()) > 0.9


@pytest.mark.parametrize("diagonal", [False, True])
def test_likelihood_is_that_of_the_transformed_gaussian(diagonal: bool) -> None:
    latent = contracting(2, diagonal)
    z = torch.randn(3, C, 2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = latent.log_prob_degraded(z)
    for k in range(2):
        law = torch.distributions.MultivariateNormal(
            latent.mean[k].detach(), GAIN @ GAIN.T + latent.covariance()[k].detach()
        )
        expected = law.log_prob(z.permute(0, 2, 3, 1)).sum((1, 2))
        torch.testing.assert_close(found[:, k].detach(), expected)


def test_posterior_is_that_of_the_joint_gaussian() -> None:
    """With S = Cov(z_y) = A A^T + C: E[z_x | z_y] = A^T S^-1 (z_y - mu), Cov = I - A^T S^-1 A."""
    latent = contracting(2)
    back, root = latent.posterior_matrices()
    for k in range(2):
        both = GAIN @ GAIN.T + latent.covariance()[k].detach()
        expected = GAIN.T @ torch.linalg.inv(both)
        torch.testing.assert_close(back[k], expected)
        eye = torch.eye(C, dtype=torch.float64)
        torch.testing.assert_close(root[k] @ root[k].T, eye - expected @ GAIN)
    paper, still = SharedLatent(C).double(), SharedLatent(C, contracts=True).double()
    for one in (paper, still):  # A = I: the published posterior
        one.set_moments(0, torch.zeros(C, dtype=torch.float64), NOISE)
    for ours, theirs in zip(still.posterior_matrices(), paper.posterior_matrices(), strict=True):
        torch.testing.assert_close(ours @ ours.mT, theirs @ theirs.mT)


def test_samples_lose_detail_whatever_the_temperature() -> None:
    prior = LatentPrior([C], contracts=True).double()
    prior.latents[0] = contracting()
    random = torch.Generator().manual_seed(2)
    z = torch.randn(1, C, 60, 60, generator=random, dtype=torch.float64)
    e = torch.randn(z.shape, generator=random, dtype=torch.float64)
    law, component = ShiftDistribution(prior), torch.zeros(1, dtype=torch.long)
    still = law.degrade([z], None, 0 * ONE[None], component)[0]
    expected = torch.einsum("ij,bjhw->bihw", GAIN, z) + 0.1
    torch.testing.assert_close(still, expected)
    moved = law.degrade([z], [e], ONE[None], component)[0]
    found = torch.cov(moved[0].flatten(1))
    both = GAIN @ GAIN.T + NOISE
    assert float((found - both).norm() / both.norm()) < 0.08
    whole = law.restore([moved], None, 0 * ONE[None], component)[0]
    left_over = float(torch.trace(torch.eye(C) - GAIN.T @ torch.linalg.inv(both) @ GAIN)) / C
    assert float((whole - z).square().mean()) == pytest.approx(left_over, rel=0.05)


def test_a_gain_is_saved_and_the_papers_models_have_none() -> None:
    assert "latents.0.gain" in LatentPrior([C], contracts=True).state_dict()
    assert "latents.0.gain" not in LatentPrior([C]).state_dict()
    assert FlowConfig().gain == "none"


def test_another_kind_of_gain_is_an_error() -> None:
    with pytest.raises(ConfigError, match="sharpening"):
        FlowConfig(gain="sharpening")
