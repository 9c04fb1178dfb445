"""Gain: how much of the clean latents a degradation keeps, z_y = A z_x + u, from the domains' moments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Moments = tuple[float, Tensor, Tensor]  # count, mean and covariance
LEAST = 0.1  # smallest eigenvalue of A: degraded latents keep a density
PRIOR = 0.05  # weight of a gain of 1, beside relative errors of the variances
CERTAIN = 2.0  # a loss counts as far as it exceeds so many of its standard errors


def loss_directions(clean: Sequence[Moments], degraded: Sequence[Moments], noise_cc: Tensor) -> Tensor:
    """Orthonormal directions (columns, C x C, float64) along which the gain is told apart from the noise.

    They are those of the optimal transport from the clean details P to the degraded ones less a first guess
    of the noise, R: P^-1/2 (P^1/2 R P^1/2)^1/2 P^-1/2. clean, degraded: moments per stratum.
    """
    shares = torch.tensor([1 / (1 / x[0] + 1 / y[0]) for x, y in zip(clean, degraded, strict=True)]).double()
    shares = shares / shares.sum()
    before = torch.einsum("s,sij->ij", shares, torch.stack([covariance for _, _, covariance in clean]))
    after = torch.einsum("s,sij->ij", shares, torch.stack([covariance for _, _, covariance in degraded]))
    return torch.linalg.eigh(_transport(before, after - noise_cc))[1]


def contraction(directions: Tensor, before_gsk: Tensor, after_gsk: Tensor) -> Tensor:
    """A symmetric A (C x C, float64), eigenvalues in [0.1, 1], of variances within strata of equal detail.

    DeFlow's z_y = z_x + u cannot lose detail: Cov(z_y) would have to exceed the identity, and blurred or
    compressed images fall short of it. Here Cov_y = A Cov_x A + C in every stratum s: where there is much
    detail its share that is lost shows, where there is none the noise does. Along each direction k, a^2 and
    the noise's variance are the weighted least squares over the strata, errors relative to the level, with
    a prior for a = 1: a direction in which strata hardly differ, or noise hides what is lost, keeps its
    detail. So does one whose loss is within the standard error between images: the folders show different
    scenes, and few of them say little.

    before, after: variances of clean and degraded latents, of all images (g = 0) and without each of some
    groups of images (g = 1 ..), of which the jackknife makes the standard error.
    """
    squared = _squared_gains(before_gsk[0], after_gsk[0])
    without_clean = torch.stack([_squared_gains(before, after_gsk[0]) for before in before_gsk[1:]])
    without_degraded = torch.stack([_squared_gains(before_gsk[0], after) for after in after_gsk[1:]])
    error = (_jackknife(without_clean) + _jackknife(without_degraded)).sqrt()
    loss = 1 - squared
    trust = (1 - (CERTAIN * error / loss.clamp_min(1e-12)).square()).clamp_min(0)
    gain = (1 - trust * loss).sqrt().clamp_min(LEAST)
    return (directions * gain) @ directions.T


def _jackknife(without_gk: Tensor) -> Tensor:
    """Variance of an estimate, from those without each group."""
    groups = len(without_gk)
    return (groups - 1) / groups * (without_gk - without_gk.mean(0)).square().sum(0)


def _squared_gains(before_sk: Tensor, after_sk: Tensor) -> Tensor:
    """a^2 in [0, 1] of after = a^2 before + noise, noise >= 0, by least squares over strata s."""
    weights = after_sk.clamp_min(1e-12) ** -2
    weights = weights / (weights * after_sk.square()).sum(0)

    def fit(before: Tensor, after: Tensor) -> Tensor:
        across, along = (weights * before * after).sum(0), (weights * before.square()).sum(0)
        return ((across + PRIOR) / (along + PRIOR)).clamp(0.0, 1.0)

    total = weights.sum(0)
    mean_before, mean_after = (weights * before_sk).sum(0) / total, (weights * after_sk).sum(0) / total
    squared = fit(before_sk - mean_before, after_sk - mean_after)
    negative_noise = mean_after - squared * mean_before < 0
    return torch.where(negative_noise, fit(before_sk, after_sk), squared)


def _transport(start_cc: Tensor, end_cc: Tensor) -> Tensor:
    """The optimal transport from N(0, start) to N(0, end); of ``end`` the positive part counts."""
    values, vectors = torch.linalg.eigh(start_cc)
    values = values.clamp_min(1e-9 * float(values.max().clamp_min(1e-12)))
    root = (vectors * values.sqrt()) @ vectors.T
    inverse = (vectors * values.rsqrt()) @ vectors.T
    inner, axes = torch.linalg.eigh(root @ end_cc @ root)
    carried = inverse @ ((axes * inner.clamp_min(0).sqrt()) @ axes.T) @ inverse
    return 0.5 * (carried + carried.T)
