"""Moments: the shift in closed form, from samples of both domains' latents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from deflow_cli.errors import TrainingError
from deflow_cli.models.deflow.gain import Moments, contraction, loss_directions
from deflow_cli.models.deflow.latent import LatentPrior

Moment = tuple[Tensor, Tensor]  # mean and covariance
STRATA = 8
FLAT_SHARE = 0.5  # images are compared for their noise where h shows the least detail
GROUPS = 10  # of images, for the error of what is estimated over images
NOISE_DIMENSIONS = 4  # ... along the 1 / n of directions in which the domains differ most


class LatentSample:
    """Latents of a sample of patches of one domain, with the image and the stratum of every position.

    Strata are made of how much detail h shows around a position. h looks alike in both domains, so
    comparing the domains within a stratum removes most of what differs only because the two folders show
    different scenes.
    """

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.latents: list[list[Tensor]] = []
        self.detail: list[list[Tensor]] = []

    def add(self, key: str, latents: Sequence[Tensor], h_bchw: Tensor) -> None:
        """Add one image's latents (each 1 C H W) and its h (1 C H / s W / s)."""
        gradient = _detail(h_bchw)
        self.keys.append(key)
        self.latents.append([z[0].flatten(1).cpu() for z in latents])
        self.detail.append(
            [F.adaptive_avg_pool2d(gradient, (z.shape[-2], z.shape[-1])).flatten().cpu() for z in latents]
        )

    def of(self, index: int, keys: set[str] | None = None) -> tuple[Tensor, Tensor]:
        """(z_cn, detail_n) of one latent over the images named, or all."""
        chosen = [i for i, key in enumerate(self.keys) if keys is None or key in keys]
        z_cn = torch.cat([self.latents[i][index] for i in chosen], dim=1)
        return z_cn, torch.cat([self.detail[i][index] for i in chosen])

    def variances(self, index: int, edges: Tensor, directions: Tensor, groups: int) -> Tensor:
        """Variances of one latent along directions (columns) in strata between ``edges`` of detail.

        1 + groups x strata x directions: of all images, and without each group of them.
        """
        images = {key: i for i, key in enumerate(sorted(set(self.keys)))}
        z_cn, detail_n = self.of(index)
        lengths = torch.tensor([len(detail[index]) for detail in self.detail])
        group_n = torch.tensor([images[key] % groups for key in self.keys]).repeat_interleave(lengths)
        strata = len(edges) + 1
        place_n = group_n * strata + torch.bucketize(detail_n, edges)
        along_nk = (directions.to(z_cn).T @ z_cn).T.double()
        sums = torch.zeros(3, groups * strata, directions.shape[1], dtype=torch.float64)
        for row, values in zip(sums, (torch.ones_like(along_nk), along_nk, along_nk.square()), strict=True):
            row.index_add_(0, place_n, values)
        parts = sums.unflatten(1, (groups, strata))
        whole = parts.sum(1, keepdim=True)
        count, mean, square = torch.cat((whole, whole - parts), dim=1)
        count = count.clamp_min(1)
        return square / count - (mean / count).square()


def _detail(h_bchw: Tensor) -> Tensor:
    """Squared gradient of h, smoothed over 3x3: 1 1 H W."""
    dx = F.pad(h_bchw[..., 1:] - h_bchw[..., :-1], (0, 1)).square().sum(1, keepdim=True)
    dy = F.pad(h_bchw[..., 1:, :] - h_bchw[..., :-1, :], (0, 0, 0, 1)).square().sum(1, keepdim=True)
    return F.avg_pool2d(dx + dy, 3, 1, 1, count_include_pad=False)


def _moments(z_cn: Tensor, stratum_n: Tensor, strata: int) -> list[Moments]:
    """(count, mean, covariance) per stratum."""
    result = []
    for stratum in range(strata):
        part = z_cn[:, stratum_n == stratum]
        mean = part.mean(1)
        centred = part - mean[:, None]
        covariance = centred @ centred.T / max(part.shape[1], 1)
        result.append((float(part.shape[1]), mean.double(), covariance.double()))
    return result


def _edges(detail_n: Tensor) -> Tensor:
    """Where strata of equal share meet."""
    stride = max(1, len(detail_n) // 100_000)
    return torch.quantile(detail_n[::stride], torch.linspace(0, 1, STRATA + 1)[1:-1])


def _strata(clean: tuple[Tensor, Tensor], degraded: tuple[Tensor, Tensor]) -> list[tuple[Moments, Moments]]:
    """Moments of clean and degraded latents in each stratum of equal detail that both have."""
    (zx, detail_x), (zy, detail_y) = clean, degraded
    edges = _edges(detail_y)
    parts_x = _moments(zx, torch.bucketize(detail_x, edges), STRATA)
    parts_y = _moments(zy, torch.bucketize(detail_y, edges), STRATA)
    return [(x, y) for x, y in zip(parts_x, parts_y, strict=True) if min(x[0], y[0]) >= 2]


def _excess(strata: Sequence[tuple[Moments, Moments]], gain_cc: Tensor | None = None) -> Moment:
    """mean(z_y) - A mean(z_x) and Cov(z_y) - A Cov(z_x) A^T, compared within strata; without A it is I.

    Strata weigh by their count over the fourth power of the clean variance: flat areas, where the scene
    adds little to a difference of covariances, count most. Least squares for Gaussian latents would take
    the square; details have heavier tails, and the fourth power came closest to known noise.
    """
    channels = len(strata[0][0][1]) if strata else 0
    total, mean = 0.0, torch.zeros(channels, dtype=torch.float64)
    covariance = torch.zeros(channels, channels, dtype=torch.float64)
    for (nx, mx, cx), (ny, my, cy) in strata:
        weight = 1 / (1 / nx + 1 / ny) / float(torch.diagonal(cx).mean()) ** 4
        if gain_cc is not None:
            mx, cx = gain_cc @ mx, gain_cc @ cx @ gain_cc.T
        total += weight
        mean += weight * (my - mx)
        covariance += weight * (cy - cx)
    return mean / total, covariance / total


def _gain(
    clean: LatentSample, degraded: LatentSample, index: int, strata: Sequence[tuple[Moments, Moments]]
) -> Tensor:
    """A of one latent; I where there are too few images to tell."""
    groups = min(GROUPS, len(set(clean.keys)), len(set(degraded.keys)))
    if groups < 4:
        return torch.eye(len(strata[0][0][1]), dtype=torch.float64)
    noise = _positive(_excess(strata)[1])
    directions = loss_directions([x for x, _ in strata], [y for _, y in strata], noise)
    edges = _edges(degraded.of(index)[1])
    before, after = (sample.variances(index, edges, directions, groups) for sample in (clean, degraded))
    return contraction(directions, before, after)


@torch.no_grad()
def start_from_moments(
    prior: LatentPrior, clean: LatentSample, degraded: LatentSample, generator: torch.Generator
) -> list[list[str]]:
    """The closed form in many dimensions: mu = mean(z_y) - mean(z_x), M M^T = positive part of
    Cov(z_y) - Cov(z_x) (DeFlow, appendix A, B). With K components, over K clusters of images.

    A prior with gains gets A first, and mu and M M^T compare with A z_x in place of z_x. Returns the
    degraded images' keys per component. Raises TrainingError without images.
    """
    keys = sorted(set(degraded.keys))
    if not keys or not clean.keys:
        raise TrainingError("the moment-matched start needs images of both domains")
    strata = [_strata(clean.of(i), degraded.of(i)) for i in range(len(prior.latents))]
    gains = [
        _gain(clean, degraded, i, strata[i]) if latent.gain is not None else None
        for i, latent in enumerate(prior.shared())
    ]
    pooled = [_excess(s, gain) for s, gain in zip(strata, gains, strict=True)]
    if prior.components == 1 or len(keys) < 2 * prior.components:
        clusters = [keys] * prior.components
    else:
        bases = [_noise_basis(covariance) for _, covariance in pooled]
        features = _noise_features(degraded, keys, bases)
        clusters = _cluster(features, keys, prior.components, generator)
    trust = _reliability(clean, degraded, [_noise_basis(covariance) for _, covariance in pooled])
    sizes = torch.tensor([float(len(members)) for members in clusters])
    weights = sizes / sizes.sum()
    for index, (latent, gain) in enumerate(zip(prior.shared(), gains, strict=True)):
        if gain is not None:
            latent.set_gain(gain)
        own = [_strata(clean.of(index), degraded.of(index, set(members))) for members in clusters]
        parts = [_excess(s, gain) for s in own]
        for k, (mean, covariance) in enumerate(_shrink(pooled[index], parts, weights, trust)):
            latent.set_moments(k, mean, covariance)
    prior.weight_logits.copy_(weights.log())
    return clusters


def _positive(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0)) @ vectors.T


def _shrink(pooled: Moment, parts: Sequence[Moment], weights: Tensor, trust: float) -> list[Moment]:
    """Components drawn towards the pooled shift.

    A cluster's excess holds what its scenes have more of than the clean ones. Its level counts as far as
    the noise, not the scenes, makes images differ (``trust``); its shape, half. The mean level is pooled.
    """
    if len(parts) == 1:
        return [pooled]
    shape = _positive(pooled[1])
    level = float(torch.trace(shape))
    positive = [_positive(covariance) for _, covariance in parts]
    levels = torch.tensor([1.0 + trust * (float(torch.trace(c)) / level - 1.0) for c in positive])
    levels = levels.clamp_min(0.05)
    levels = levels / (weights * levels).sum()
    result = []
    for (mean, _), covariance, share in zip(parts, positive, levels.tolist(), strict=True):
        own = covariance * (level / max(float(torch.trace(covariance)), 1e-12))
        result.append((0.5 * (mean + pooled[0]), share * 0.5 * (own + shape)))
    return result


def _noise_basis(covariance: Tensor) -> Tensor:
    """The directions (C x n) in which the domains differ most."""
    vectors = torch.linalg.eigh(covariance)[1]
    return vectors[:, -max(1, len(vectors) // NOISE_DIMENSIONS) :].float()


def _noise_features(sample: LatentSample, keys: Sequence[str], bases: Sequence[Tensor]) -> Tensor:
    """Log-variances of each image's flat positions along noise directions: images x features."""
    rows = []
    limits = [torch.quantile(sample.of(i)[1][:1_000_000], FLAT_SHARE) for i in range(len(bases))]
    for key in keys:
        parts = []
        for index, basis in enumerate(bases):
            z_cn, detail = sample.of(index, {key})
            flat = detail <= torch.maximum(limits[index], torch.quantile(detail, 0.25))
            variance = (basis.T @ z_cn[:, flat]).square().mean(1)
            parts.append(variance.clamp_min(1e-6).log().double() / basis.shape[1] ** 0.5)
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def _reliability(clean: LatentSample, degraded: LatentSample, bases: Sequence[Tensor]) -> float:
    """Share of the images' spread in level that is noise: 1 - Var(clean levels) / Var(degraded levels)."""

    def levels(sample: LatentSample) -> Tensor:
        keys = sorted(set(sample.keys))
        return _noise_features(sample, keys, bases).exp().mean(1)

    if min(len(set(clean.keys)), len(set(degraded.keys))) < 3:
        return 0.0
    scenes, both = levels(clean).var(), levels(degraded).var()
    return float((1.0 - scenes / both.clamp_min(1e-12)).clamp(0.0, 1.0))


def _cluster(
    points: Tensor, keys: Sequence[str], count: int, generator: torch.Generator, rounds: int = 25
) -> list[list[str]]:
    """k-means, started along the first principal direction so that no component begins empty."""
    centred = points - points.mean(0)
    direction = torch.linalg.svd(centred, full_matrices=False)[2][0]
    order = torch.argsort(centred @ direction)
    centres = torch.stack([points[part].mean(0) for part in torch.tensor_split(order, count)])
    nearest = torch.zeros(len(keys), dtype=torch.long)
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(1)
        for k in range(count):
            if not bool((nearest == k).any()):  # an empty component takes a random image
                nearest[int(torch.randint(len(keys), (1,), generator=generator))] = k
            centres[k] = points[nearest == k].mean(0)
    clusters = [[keys[i] for i in torch.nonzero(nearest == k)[:, 0].tolist()] for k in range(count)]
    return [members or list(keys) for members in clusters]
