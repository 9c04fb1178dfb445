"""Latents as something to edit: moments and their distributions, the sphere, variations, masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from deflow_cli.config.editing import COLLECTIONS, Collection
from deflow_cli.errors import ShapeError
from deflow_cli.models.srflow.latents import (
    interpolated_latents,
    latent_masks,
    mixed_latents,
    normalised_latents,
    varied_latents,
)


def latents(batch: int = 2, seed: int = 0) -> list[Tensor]:
    """Of an image of 16 x 24, with means and variances far from those of a standard normal."""
    random = torch.Generator().manual_seed(seed)
    shapes = [(6, 8, 12), (12, 4, 6)]
    return [3 + 2 * torch.randn(batch, *shape, generator=random) for shape in shapes]


def collections_of(z: list[Tensor], collection: Collection) -> list[Tensor]:
    """Of the first image: each N x number of collections."""
    if collection == "global":
        return [torch.cat([part[0].flatten() for part in z])[:, None]]
    if collection == "local":
        return [part[0].flatten(1) for part in z]
    return [part[0].flatten(1).T for part in z]


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_four_numbers(collection: Collection) -> None:
    """1, 2, 3, 4 at temperature 0.9, in whichever direction the collection runs."""
    z = torch.tensor([1.0, 2.0, 3.0, 4.0]).view((1, 4, 1, 1) if collection == "local" else (1, 1, 2, 2))
    (found,) = normalised_latents([z], collection, 0.9)
    expected = torch.tensor([-1.04571, -0.34857, 0.34857, 1.04571])
    torch.testing.assert_close(found.flatten(), expected, rtol=0, atol=6e-6)


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_moments_without_a_draw(collection: Collection) -> None:
    for values in collections_of(normalised_latents(latents(), collection, 0.7), collection):
        torch.testing.assert_close(values.mean(0), torch.zeros(values.shape[1]), rtol=0, atol=1e-5)
        torch.testing.assert_close(values.var(0), torch.full((values.shape[1],), 0.49), rtol=1e-4, atol=0)


@pytest.mark.parametrize("count", [6, 48])
def test_drawn_moments_are_distributed_as_those_of_a_sample(count: int) -> None:
    """Mean: N(0, tau^2 / N). Variance: mean tau^2, variance 2 tau^4 / (N - 1)."""
    tau, positions = 0.8, 120
    z = 5 + 3 * torch.randn(1, count, positions, positions, generator=torch.Generator().manual_seed(1))
    (found,) = normalised_latents([z], "local", tau, np.random.default_rng(2))
    means, variances = found.mean(1).flatten(), found.var(1).flatten()
    error = 1 / math.sqrt(positions**2)
    assert abs(float(means.mean())) < 4 * error * tau / math.sqrt(count)
    assert float(means.var()) == pytest.approx(tau**2 / count, rel=6 * error)
    assert float(variances.mean()) == pytest.approx(tau**2, rel=4 * error)
    assert float(variances.var()) == pytest.approx(2 * tau**4 / (count - 1), rel=12 * error)


def test_values_that_were_right_stay_so_in_distribution() -> None:
    """A sample of N(0, tau^2) is one afterwards: sums of squares have mean and variance of chi^2."""
    z = 0.9 * torch.randn(1, 8, 150, 150, generator=torch.Generator().manual_seed(3))
    (found,) = normalised_latents([z], "local", 0.9, np.random.default_rng(4))
    sums = (found / 0.9).square().sum(1)
    assert float(sums.mean()) == pytest.approx(8, rel=0.02)
    assert float(sums.var()) == pytest.approx(16, rel=0.05)


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_images_of_a_batch_are_normalised_alone(collection: Collection) -> None:
    z = latents()
    alone = normalised_latents([part[1:] for part in z], collection, 0.8)
    for both, one in zip(normalised_latents(z, collection, 0.8), alone, strict=True):
        torch.testing.assert_close(both[1:], one)


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_a_mask_forms_collections_of_what_it_covers(collection: Collection) -> None:
    z = latents(1)
    mask = torch.zeros(1, 1, 16, 24)
    mask[..., 3:9, 5:17] = 1
    masks = latent_masks(mask, [2, 4])
    found = normalised_latents(z, collection, 0.8, masks=masks)
    covered = [m.bool().expand_as(part) for m, part in zip(masks, z, strict=True)]
    for before, after, where in zip(z, found, covered, strict=True):
        assert torch.equal(after[~where], before[~where])
        assert not torch.equal(after[where], before[where])
    inside = [part[where] for part, where in zip(found, covered, strict=True)]
    if collection == "global":
        assert float(torch.cat(inside).std()) == pytest.approx(0.8, rel=1e-4)
    elif collection == "spatial":
        assert float(inside[0].reshape(6, -1)[2].std()) == pytest.approx(0.8, rel=1e-4)


def test_what_has_no_variance() -> None:
    single = torch.full((1, 1, 3, 3), 2.0)
    assert torch.equal(normalised_latents([single], "local", 0.9, np.random.default_rng(0))[0], single)
    equal = torch.full((1, 4, 2, 2), 2.0)
    found = normalised_latents([equal], "local", 0.9)[0]
    assert torch.equal(found, torch.zeros_like(equal))
    empty = normalised_latents([equal], "spatial", 0.9, masks=[torch.zeros(1, 1, 2, 2)])[0]
    assert torch.equal(empty, equal)


def test_the_sphere_keeps_the_norm() -> None:
    """Between independent Gaussian vectors the norm's mean is theirs; half-way its spread 0.71 of theirs."""
    random = torch.Generator().manual_seed(5)
    one, two = (torch.randn(400, 12, 8, 8, generator=random) for _ in range(2))
    norms = {
        t: interpolated_latents([one], [two], t)[0].flatten(1).norm(dim=1) for t in (0.0, 0.25, 0.5, 0.75)
    }
    for found in norms.values():
        assert float(found.mean()) == pytest.approx(float(norms[0.0].mean()), rel=0.01)
        assert 0.6 < float(found.std() / norms[0.0].std()) < 1.1
    straight = ((one + two) / 2).flatten(1).norm(dim=1)
    assert float(straight.mean()) < 0.75 * float(norms[0.5].mean())


def test_ends_of_an_interpolation_and_what_has_no_angle() -> None:
    one, two = latents(seed=6), latents(seed=7)
    for t, end in ((0.0, one), (1.0, two)):
        for found, z in zip(interpolated_latents(one, two, t), end, strict=True):
            torch.testing.assert_close(found, z, rtol=1e-6, atol=1e-6)
    for other in (one, [torch.zeros_like(z) for z in one]):
        for found, a, b in zip(interpolated_latents(one, other, 0.25), one, other, strict=True):
            torch.testing.assert_close(found, 0.75 * a + 0.25 * b)


def test_variations_keep_the_variance() -> None:
    random = torch.Generator().manual_seed(8)
    z, e = (torch.randn(1, 12, 100, 100, generator=random) for _ in range(2))
    found = varied_latents([0.8 * z], [e], 0.6, 0.8)[0]
    assert float(found.std()) == pytest.approx(0.8, rel=0.01)
    torch.testing.assert_close(varied_latents([z], [e], 0.0, 0.8)[0], z)
    torch.testing.assert_close(varied_latents([z], [e], 1.0, 0.8)[0], 0.8 * e)


def test_masks_on_the_latents_grids() -> None:
    mask = torch.zeros(1, 1, 8, 16)
    mask[..., 3, 9] = 0.2
    half, quarter = latent_masks(mask, [2, 4])
    assert half.nonzero().tolist() == [[0, 0, 1, 4]]
    assert quarter.nonzero().tolist() == [[0, 0, 0, 2]]
    inside, outside = [torch.ones(1, 3, 2, 4)], [torch.zeros(1, 3, 2, 4)]
    assert torch.equal(mixed_latents(inside, outside, [quarter])[0], quarter.expand(1, 3, 2, 4))
    with pytest.raises(ShapeError, match="a mask of 16x8"):
        latent_masks(mask, [2, 16])
