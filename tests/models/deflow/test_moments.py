"""The closed form of the shift: known truths come back, scenes do not leak in, components find levels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.errors import TrainingError
from deflow_cli.models.deflow.latent import LatentPrior
from deflow_cli.models.deflow.moments import LatentSample, start_from_moments

CHANNELS = 6


def scenes(random: torch.Generator, texture: float) -> tuple[Tensor, Tensor]:
    """An h of one image, half flat and half textured, and latents that are strong where h is textured."""
    h = torch.zeros(1, 3, 32, 32)
    h[..., 16:] = 0.3 * texture * torch.randn(1, 3, 32, 16, generator=random)
    strength = torch.full((1, 1, 16, 16), 0.3)
    strength[..., 8:] = 2.0 * texture
    return h, strength * torch.randn(1, CHANNELS, 16, 16, generator=random)


def truth(random: torch.Generator) -> tuple[Tensor, Tensor]:
    root = 0.5 * torch.randn(CHANNELS, 3, generator=random)
    return 0.3 * torch.randn(CHANNELS, generator=random), root


def samples(
    mean: Tensor, root: Tensor, levels: list[float], textures: tuple[float, float], seed: int = 1
) -> tuple[LatentSample, LatentSample]:
    """60 clean and 60 degraded images; degraded image i has the shift at levels[i % n]."""
    random = torch.Generator().manual_seed(seed)
    clean, degraded = LatentSample(), LatentSample()
    for index in range(60):
        h, z = scenes(random, textures[0])
        clean.add(f"clean{index:03d}", [z], h)
        h, z = scenes(random, textures[1])
        noise = torch.einsum("ij,bjhw->bihw", root, torch.randn(1, root.shape[1], 16, 16, generator=random))
        shift = levels[index % len(levels)] * noise + mean[:, None, None]
        degraded.add(f"noisy{index:03d}", [z + shift], h)
    return clean, degraded


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.detach() - theirs).norm() / theirs.norm())


def test_known_shift_comes_back() -> None:
    random = torch.Generator().manual_seed(0)
    mean, root = truth(random)
    prior = LatentPrior([CHANNELS])
    start_from_moments(prior, *samples(mean, root, [1.0], (1.0, 1.0)), random)
    positions = 60 * 16 * 8  # flat ones, which count
    standard_error = float((root.square().sum() / positions).sqrt() / mean.norm())
    assert relative(prior.shared()[0].mean[0], mean) < 3 * standard_error
    assert relative(prior.shared()[0].covariance()[0], root @ root.T) < 0.05


def test_scenes_of_another_texture_do_not_pass_for_noise() -> None:
    """The degraded folder's textured halves are twice as strong: a plain difference would be far off."""
    random = torch.Generator().manual_seed(0)
    mean, root = truth(random)
    clean, degraded = samples(mean, root, [1.0], (1.0, 2.0))
    plain = torch.cov(degraded.of(0)[0]) - torch.cov(clean.of(0)[0])
    assert relative(plain, root @ root.T) > 1.0
    prior = LatentPrior([CHANNELS])
    start_from_moments(prior, clean, degraded, random)
    assert relative(prior.shared()[0].covariance()[0], root @ root.T) < 0.1


def test_components_find_the_levels_of_images() -> None:
    random = torch.Generator().manual_seed(0)
    mean, root = truth(random)
    prior = LatentPrior([CHANNELS], components=2)
    clusters = start_from_moments(prior, *samples(mean, root, [0.5, 1.5], (1.0, 1.0)), random)
    weak, strong = sorted(range(2), key=lambda k: float(prior.shared()[0].covariance()[k].detach().trace()))
    assert {int(key[5:]) % 2 for key in clusters[weak]} == {0}
    assert {int(key[5:]) % 2 for key in clusters[strong]} == {1}
    torch.testing.assert_close(prior.log_weights().exp(), torch.tensor([0.5, 0.5]))
    total = float((root @ root.T).trace())
    traces = [float(prior.shared()[0].covariance()[k].detach().trace()) / total for k in (weak, strong)]
    assert traces[0] == pytest.approx(0.25, abs=0.1)
    assert traces[1] == pytest.approx(2.25, abs=0.25)


def test_colours_of_scenes_are_no_shift_of_colour() -> None:
    """Scenes of eight crops each have colours of their own, which do not make a mean shift."""
    random = torch.Generator().manual_seed(0)
    mean, root = truth(random)
    clean, degraded = samples(0 * mean, root, [1.0], (1.0, 1.0))
    for sample in (clean, degraded):
        for n, latents in enumerate(sample.latents):
            if n % 8 == 0:
                cast = 0.5 * torch.randn(CHANNELS, 1, generator=random)
            latents[0] += cast
    plain = degraded.of(0)[0].mean(1) - clean.of(0)[0].mean(1)
    prior = LatentPrior([CHANNELS], components=3)
    start_from_moments(prior, clean, degraded, random)
    assert float(plain.norm()) > 0.3
    assert float(prior.shared()[0].mean.detach().norm(dim=1).max()) < 0.1 * float(plain.norm())


def test_no_noise_gives_no_randomness() -> None:
    random = torch.Generator().manual_seed(0)
    prior = LatentPrior([CHANNELS])
    nothing = torch.zeros(CHANNELS, 1)
    start_from_moments(prior, *samples(nothing[:, 0], nothing, [1.0], (1.0, 1.0)), random)
    assert float(prior.shared()[0].covariance().detach()[0].trace()) < 0.02


def test_an_empty_domain_is_an_error() -> None:
    with pytest.raises(TrainingError, match="both domains"):
        start_from_moments(
            LatentPrior([CHANNELS]), LatentSample(), LatentSample(), torch.Generator().manual_seed(0)
        )
