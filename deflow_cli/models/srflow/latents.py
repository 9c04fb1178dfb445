"""Latents as something to edit: normalised, interpolated, varied; and masks on their grids."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deflow_cli.config.editing import Collection
from deflow_cli.errors import ShapeError

LEAST_VARIANCE = 1e-12  # of a collection whose values are all equal
SMALLEST_SINE = 1e-4  # of the angle between vectors that are interpolated along the sphere


def normalised_latents(
    latents: Sequence[Tensor],
    collection: Collection,
    temperature: float,
    random: np.random.Generator | None = None,
    masks: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """Give collections of latent values the moments that values of N(0, tau^2) would have.

    Each collection of N values with mean m and variance v (divisor N - 1) becomes
    sqrt(v* / v) (z - m) + m*, with m* ~ N(0, tau^2 / N) and v* of the gamma distribution of shape (N - 1) / 2
    and scale 2 tau^2 / (N - 1): the distributions of mean and variance of N independent values (SRFlow, ECCV
    2020, latent normalisation).

    latents: B C H W each. collection: ``global``, all values of an image; ``local``, the channels at one
    position of one tensor; ``spatial``, the positions of one channel of one tensor. random: draws m* and v*;
    None: m* = 0 and v* = tau^2. masks: B 1 H W of zeros and ones for each tensor; collections consist of the
    values at ones, and all others are returned as they are, as is a collection of one value, which has no
    variance.

    >>> z = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)
    >>> normalised_latents([z], "local", 0.9)[0].flatten()
    tensor([-1.0457, -0.3486,  0.3486,  1.0457])
    """
    chosen = [torch.ones_like(z[:, :1]) for z in latents] if masks is None else list(masks)
    weights = [mask.to(z).expand_as(z) for mask, z in zip(chosen, latents, strict=True)]
    if collection == "global":
        together = torch.cat([z.flatten(1) for z in latents], dim=1)
        counted = torch.cat([weight.flatten(1) for weight in weights], dim=1)
        parts = _with_moments(together, counted, (1,), temperature, random).split(
            [math.prod(z.shape[1:]) for z in latents], dim=1
        )
        return [part.reshape(z.shape) for part, z in zip(parts, latents, strict=True)]
    axes = (1,) if collection == "local" else (2, 3)
    return [
        _with_moments(z, weight, axes, temperature, random)
        for z, weight in zip(latents, weights, strict=True)
    ]


def interpolated_latents(first: Sequence[Tensor], second: Sequence[Tensor], share: float) -> list[Tensor]:
    """Latents on the way from ``first`` (share 0) to ``second`` (1), along the sphere (Shoemake, 1985).

    sin((1 - t) a) / sin(a) z1 + sin(t a) / sin(a) z2, with a the angle between z1 and z2 as vectors, one for
    each tensor of each image. Independent Gaussian vectors are nearly orthogonal and of nearly one norm, and
    so are the latents between them; a straight line would lead through shorter ones, those of a lower
    temperature. Parallel vectors, and zeros, are interpolated linearly.
    """
    return [_slerp(one, two, share) for one, two in zip(first, second, strict=True)]


def varied_latents(
    latents: Sequence[Tensor], noise: Sequence[Tensor], strength: float, temperature: float
) -> list[Tensor]:
    """Variations: sqrt(1 - a^2) z + a tau e, which keeps N(0, tau^2) latents in their distribution.

    noise: standard normals e of the latents' shapes. strength: a, 0 (no change) to 1 (another sample).
    """
    kept = math.sqrt(1 - strength**2)
    return [kept * z + strength * temperature * e for z, e in zip(latents, noise, strict=True)]


def mixed_latents(
    inside: Sequence[Tensor], outside: Sequence[Tensor], masks: Sequence[Tensor]
) -> list[Tensor]:
    """``inside`` where a mask is 1, ``outside`` elsewhere. masks: B 1 H W for each tensor."""
    return [
        torch.where(mask.to(outer) > 0, inner, outer)
        for inner, outer, mask in zip(inside, outside, masks, strict=True)
    ]


def latent_masks(mask_b1hw: Tensor, factors: Sequence[int]) -> list[Tensor]:
    """A mask of an image on the grid of each latent: 1 where any of the pixels below is above 0.

    factors: image sides over latent sides, of each latent. Raises ShapeError unless they divide the sides.
    """
    height, width = mask_b1hw.shape[-2:]
    if any(height % factor or width % factor for factor in factors):
        raise ShapeError(f"a mask of {width}x{height} on latents at 1/{max(factors)} of it")
    touched = (mask_b1hw > 0).float()
    return [F.max_pool2d(touched, factor) for factor in factors]


def _with_moments(
    z: Tensor, weight: Tensor, axes: tuple[int, ...], temperature: float, random: np.random.Generator | None
) -> Tensor:
    """``normalised_latents`` along some axes of one tensor. weight: 1 for the values that count."""
    count = weight.sum(axes, keepdim=True)
    mean = (weight * z).sum(axes, keepdim=True) / count.clamp(min=1)
    centred = z - mean
    variance = (weight * centred.square()).sum(axes, keepdim=True) / (count - 1).clamp(min=1)
    new_mean, new_variance = _drawn_moments(count, temperature, random)
    result = (new_variance / variance.clamp(min=LEAST_VARIANCE)).sqrt() * centred + new_mean
    return torch.where((weight > 0) & (count > 1), result, z)


def _drawn_moments(
    count: Tensor, temperature: float, random: np.random.Generator | None
) -> tuple[Tensor, Tensor]:
    """Mean and variance of so many independent values of N(0, tau^2), in the shape of ``count``."""
    if random is None:
        return torch.zeros_like(count), torch.full_like(count, temperature**2)
    numbers = count.detach().cpu().double().numpy().clip(2)
    means = random.standard_normal(numbers.shape) * temperature / np.sqrt(numbers)
    shape = (numbers - 1) / 2
    variances = random.standard_gamma(shape) / shape * temperature**2
    return torch.from_numpy(means).to(count), torch.from_numpy(variances).to(count)


def _slerp(one: Tensor, two: Tensor, share: float) -> Tensor:
    first, second = one.flatten(1).double(), two.flatten(1).double()
    norms = first.norm(dim=1) * second.norm(dim=1)
    cosine = ((first * second).sum(1) / norms.clamp(min=LEAST_VARIANCE)).clamp(-1, 1)
    angle = cosine.acos()
    sine = angle.sin()
    is_round = (sine > SMALLEST_SINE) & (norms > LEAST_VARIANCE)
    divisor = torch.where(is_round, sine, torch.ones_like(sine))
    start = torch.where(is_round, ((1 - share) * angle).sin() / divisor, torch.full_like(sine, 1 - share))
    end = torch.where(is_round, (share * angle).sin() / divisor, torch.full_like(sine, share))
    return (start[:, None] * first + end[:, None] * second).reshape(one.shape).to(one)
