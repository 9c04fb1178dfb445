"""Moments: the shift in closed form, from samples of both domains' latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from deflow_cli.errors import TrainingError
from deflow_cli.models.deflow.gain import Moments, contraction, loss_directions
from deflow_cli.models.deflow.latent import LatentPrior

STRATA = 8
FLAT_SHARE = 0.5  # images are compared for their noise where h shows the least detail
GROUPS = 10  # of images, for the error of what is estimated over images
NOISE_DIMENSIONS = 4  # ... along the 1 / n of directions in which the domains differ most
FEWEST_GROUPS = 4  # below, images are too few to tell what they have in common
ERRORS = 2.0  # standard errors between images that a mean must exceed to count


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
        group_n = _groups(self.keys, images, groups).repeat_interleave(lengths)
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


def _groups(keys: Sequence[str], images: dict[str, int], groups: int) -> Tensor:
    """The group of each image: neighbours in the order of names, for those are often of one scene."""
    return torch.tensor([images[key] * groups // len(images) for key in keys])


def _detail(h_bchw: Tensor) -> Tensor:
    """Squared gradient of h, smoothed over 3x3: 1 1 H W."""
    dx = F.pad(h_bchw[..., 1:] - h_bchw[..., :-1], (0, 1)).square().sum(1, keepdim=True)
    dy = F.pad(h_bchw[..., 1:, :] - h_bchw[..., :-1, :], (0, 0, 0, 1)).square().sum(1, keepdim=True)
    return F.avg_pool2d(dx + dy, 3, 1, 1, count_include_pad=False)


def _mean_variance(
    sample: LatentSample, index: int, keys: Sequence[str], edges: Tensor, weights: Sequence[float]
) -> Tensor:
    """Variance between images of sum_s w_s mean_s(z), a jackknife over groups of the images named: C x C.

    Infinite where they are too few.
    """
    images = {key: i for i, key in enumerate(sorted(set(keys)))}
    z_cn, detail_n = sample.of(index, set(keys))
    groups, strata, channels = min(GROUPS, len(images)), len(edges) + 1, len(z_cn)
    if groups < FEWEST_GROUPS:
        return torch.full((channels, channels), torch.inf, dtype=torch.float64)
    chosen = [i for i, key in enumerate(sample.keys) if key in images]
    lengths = torch.tensor([len(sample.detail[i][index]) for i in chosen])
    group_n = _groups([sample.keys[i] for i in chosen], images, groups).repeat_interleave(lengths)
    place_n = group_n * strata + torch.bucketize(detail_n, edges)
    sums = torch.zeros(groups * strata, channels, dtype=torch.float64).index_add_(0, place_n, z_cn.T.double())
    counts = torch.bincount(place_n, minlength=groups * strata).double()
    sums, counts = sums.unflatten(0, (groups, strata)), counts.view(groups, strata, 1)
    means = (sums.sum(0) - sums) / (counts.sum(0) - counts).clamp_min(1)
    left_out = torch.einsum("s,gsc->gc", torch.tensor(weights, dtype=torch.float64), means)
    centred = left_out - left_out.mean(0)
    return (groups - 1) / groups * (centred.T @ centred)


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


class _Comparison:
    """A latent of clean images beside that of degraded ones, or of some, in strata of equal detail."""

    def __init__(
        self, clean: LatentSample, degraded: LatentSample, index: int, keys: Sequence[str] | None = None
    ) -> None:
        self.clean, self.degraded, self.index = clean, degraded, index
        self.keys = degraded.keys if keys is None else keys
        (zx, detail_x), (zy, detail_y) = clean.of(index), degraded.of(index, set(self.keys))
        self.edges = _edges(detail_y)
        parts_x = _moments(zx, torch.bucketize(detail_x, self.edges), STRATA)
        parts_y = _moments(zy, torch.bucketize(detail_y, self.edges), STRATA)
        pairs = list(zip(parts_x, parts_y, strict=True))
        self.usable = [min(x[0], y[0]) >= 2 for x, y in pairs]  # strata that both have
        self.strata = [pair for pair, usable in zip(pairs, self.usable, strict=True) if usable]

    def weights(self) -> list[float]:
        """Of the usable strata: their count over the fourth power of the clean variance, of sum 1.

        Flat areas, where the scene adds little to a difference of covariances, count most. Least squares for
        Gaussian latents would take the square; details have heavier tails, and the fourth power came closest
        to known noise.
        """
        raw = [
            1 / (1 / nx + 1 / ny) / float(torch.diagonal(cx).mean()) ** 4
            for (nx, _, cx), (ny, _, _) in self.strata
        ]
        return [weight / sum(raw) for weight in raw]

    def covariance(self, gain_cc: Tensor | None = None) -> Tensor:
        """Cov(z_y) - A Cov(z_x) A^T, compared within strata; without A it is I."""
        gain = self._gain(gain_cc)
        parts = zip(self.weights(), self.strata, strict=True)
        return cast(Tensor, sum(weight * (cy - gain @ cx @ gain.T) for weight, ((*_, cx), (*_, cy)) in parts))

    def mean(self, gain_cc: Tensor | None = None) -> Tensor:
        """mean(z_y) - A mean(z_x), compared within strata; without A it is I.

        It counts as far as it exceeds two standard errors between images: the folders show different scenes,
        and the colours of a few of them are no shift of colour.
        """
        gain, weights = self._gain(gain_cc), self.weights()
        parts = zip(weights, self.strata, strict=True)
        mean = cast(Tensor, sum(weight * (my - gain @ mx) for weight, ((_, mx, _), (_, my, _)) in parts))
        share = 1 - ERRORS**2 * self._mean_error(weights, gain) / mean.square().clamp_min(1e-30)
        return mean * share.clamp_min(0)

    def _gain(self, gain_cc: Tensor | None) -> Tensor:
        channels = len(self.strata[0][0][1])
        return torch.eye(channels, dtype=torch.float64) if gain_cc is None else gain_cc

    def _mean_error(self, weights: Sequence[float], gain_cc: Tensor) -> Tensor:
        """Variance of the excess of means: C."""
        remaining = iter(weights)
        placed = [next(remaining) if usable else 0.0 for usable in self.usable]
        clean = _mean_variance(self.clean, self.index, self.clean.keys, self.edges, placed)
        degraded = _mean_variance(self.degraded, self.index, self.keys, self.edges, placed)
        if not torch.isfinite(clean).all():
            return torch.diagonal(clean)
        return torch.diagonal(gain_cc @ clean @ gain_cc.T + degraded)


def _gain(compared: _Comparison) -> Tensor:
    """A of one latent; I where there are too few images to tell."""
    clean, degraded, strata = compared.clean, compared.degraded, compared.strata
    groups = min(GROUPS, len(set(clean.keys)), len(set(degraded.keys)))
    if groups < FEWEST_GROUPS:
        return torch.eye(len(strata[0][0][1]), dtype=torch.float64)
    noise = _positive(compared.covariance())
    directions = loss_directions([x for x, _ in strata], [y for _, y in strata], noise)
    before, after = (
        sample.variances(compared.index, compared.edges, directions, groups) for sample in (clean, degraded)
    )
    return contraction(directions, before, after)


@torch.no_grad()
def start_from_moments(
    prior: LatentPrior, clean: LatentSample, degraded: LatentSample, generator: torch.Generator
) -> list[list[str]]:
    """The closed form in many dimensions: mu = mean(z_y) - mean(z_x), M M^T = positive part of
    Cov(z_y) - Cov(z_x) (DeFlow, appendix A, B). With K components, over K clusters of images.

    mu counts as far as it exceeds what scenes' colours can make of so many images.

    A prior with gains gets A first, and mu and M M^T compare with A z_x in place of z_x. Returns the
    degraded images' keys per component. Raises TrainingError without images.
    """
    keys = sorted(set(degraded.keys))
    if not keys or not clean.keys:
        raise TrainingError("the moment-matched start needs images of both domains")
    compared = [_Comparison(clean, degraded, i) for i in range(len(prior.latents))]
    gains = [
        _gain(one) if latent.gain is not None else None
        for one, latent in zip(compared, prior.shared(), strict=True)
    ]
    pooled = [one.covariance(gain) for one, gain in zip(compared, gains, strict=True)]
    if prior.components == 1 or len(keys) < 2 * prior.components:
        clusters = [keys] * prior.components
    else:
        bases = [_noise_basis(covariance) for covariance in pooled]
        features = _noise_features(degraded, keys, bases)
        clusters = _cluster(features, keys, prior.components, generator)
    trust = _reliability(clean, degraded, [_noise_basis(covariance) for covariance in pooled])
    sizes = torch.tensor([float(len(members)) for members in clusters])
    weights = sizes / sizes.sum()
    for index, (latent, gain) in enumerate(zip(prior.shared(), gains, strict=True)):
        if gain is not None:
            latent.set_gain(gain)
        mean = compared[index].mean(gain)  # of all components: they differ in noise, and in colours by scenes
        parts = [_Comparison(clean, degraded, index, members).covariance(gain) for members in clusters]
        for k, covariance in enumerate(_shrink(pooled[index], parts, weights, trust)):
            latent.set_moments(k, mean, covariance)
    prior.weight_logits.copy_(weights.log())
    return clusters


def _positive(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0)) @ vectors.T


def _shrink(pooled: Tensor, parts: Sequence[Tensor], weights: Tensor, trust: float) -> list[Tensor]:
    """Covariances of the components drawn towards the pooled one.

    A cluster's excess holds what its scenes have more of than the clean ones. Its level counts as far as
    the noise, not the scenes, makes images differ (``trust``); its shape, half. The mean level is pooled.
    """
    if len(parts) == 1:
        return [pooled]
    shape = _positive(pooled)
    level = float(torch.trace(shape))
    positive = [_positive(covariance) for covariance in parts]
    levels = torch.tensor([1.0 + trust * (float(torch.trace(c)) / level - 1.0) for c in positive])
    levels = levels.clamp_min(0.05)
    levels = levels / (weights * levels).sum()
    result = []
    for covariance, share in zip(positive, levels.tolist(), strict=True):
        own = covariance * (level / max(float(torch.trace(covariance)), 1e-12))
        result.append(share * 0.5 * (own + shape))
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
