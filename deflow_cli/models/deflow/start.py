"""Start: where training begins, by closed forms on a first sample of data instead of at zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import TrainingError
from ...layers.coupling import FlowStep
from ...layers.invconv import InvertibleConv1x1
from ...layers.nets import CouplingNet, ZeroConv3x3
from ...layers.split import Split
from .latent import LatentPrior
from .model import DeFlow

Latents = list[Tensor]

WHITENED_STEP = 2  # the step of each level whose 1x1 starts as a whitening


@torch.no_grad()
def start_flow(model: DeFlow, x_bchw: Tensor, h_bchw: Tensor, *, whiten: bool) -> None:
    """Start every ActNorm from data and, with ``whiten``, the linear part of the flow by regression.

    With ``whiten`` the first injector of each level subtracts from z its ridge regression on the injector's
    own hidden features of h, and the next 1x1 whitens what is left: the latents begin as decorrelated
    detail that h does not explain, of unit variance. The couplings start at the identity: started by
    regression too, they amplified noise.
    """
    model.pending_start()
    if not whiten:
        model.encode_conditioned(x_bchw, model.prepare(h_bchw))
        return
    features = model.encoder(h_bchw) if model.encoder is not None else None
    z = x_bchw
    steps_in_level = 0
    for layer, level in zip(model.flow.layers, model.flow.level_of_layer, strict=True):
        if isinstance(layer, FlowStep):
            steps_in_level += 1
            if steps_in_level == WHITENED_STEP:
                _whiten(layer.actnorm.scale(z), layer.invconv)
            condition = layer.condition(features[level - 1]) if features is not None else None
            z, _ = layer(z, condition)
            if steps_in_level == 1 and features is not None and layer.injector is not None:
                z = _subtract(layer.injector, features[level - 1], z)
        elif isinstance(layer, Split):
            z, _, _ = layer(z)
        else:
            steps_in_level = 0
            z, _ = layer(z)


def _subtract(injector: CouplingNet, features_bchw: Tensor, target_bchw: Tensor) -> Tensor:
    """Start the injector's shift at the target's regression on its hidden features; returns what is left."""
    hidden = injector.hidden(None, injector.condition_term(features_bchw)).float()
    _regress(injector.conv_out, hidden, target_bchw)
    return target_bchw - injector.conv_out(hidden)[:, 0::2]


def _whiten(z_bchw: Tensor, conv: InvertibleConv1x1) -> None:
    """W = Q D^-1/2 E^T: unit covariance, in a random rotation Q (the 1x1's own start)."""
    flat = z_bchw.transpose(0, 1).flatten(1).double()
    values, vectors = torch.linalg.eigh(torch.cov(flat))
    floor = 1e-4 * values.max()
    whitening = (vectors / values.clamp_min(floor).sqrt()) @ vectors.T
    conv.set_matrix(conv.matrix(torch.float64) @ whitening)


def _regress(conv: ZeroConv3x3, hidden_bchw: Tensor, target_bchw: Tensor, ridge: float = 1e-3) -> None:
    """Ridge regression of the target on 3x3 neighbourhoods of hidden features, into the even channels."""
    columns = torch.nn.functional.unfold(hidden_bchw, 3, padding=1).transpose(0, 1).flatten(1)
    design = torch.cat((columns, torch.ones_like(columns[:1])))
    target = target_bchw.transpose(0, 1).flatten(1)
    gram = (design @ design.T).double()
    gram += ridge * gram.diagonal().mean() * torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(gram, (design @ target.T).double()).T
    conv.weight[0::2] = weights[:, :-1].reshape(conv.weight[0::2].shape).to(conv.weight.dtype)
    conv.bias[0::2] = weights[:, -1].to(conv.bias.dtype)


@torch.no_grad()
def start_constant(prior: LatentPrior, scale: float = 0.1) -> None:
    """M = scale I for every component; with several, scales spread around it."""
    for latent in prior.shared():
        for k in range(prior.components):
            factor = scale * 2.0 ** (k - (prior.components - 1) / 2)
            mean = torch.zeros_like(latent.mean[k])
            latent.set_moments(k, mean, factor**2 * torch.eye(latent.channels).to(mean))


class LatentSample:
    """Latents of a sample of patches of one domain, with the image and the stratum of every position.

    Strata are made of how much detail h shows around a position. h looks alike in both domains, so
    comparing the domains within a stratum removes most of what differs only because the two folders show
    different scenes.
    """

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.latents: list[Latents] = []
        self.detail: list[Latents] = []

    def add(self, key: str, latents: Sequence[Tensor], h_bchw: Tensor) -> None:
        """Add one image's latents (each 1 C H W) and its h (1 C H / s W / s)."""
        gradient = _detail(h_bchw)
        self.keys.append(key)
        self.latents.append([z[0].flatten(1).cpu() for z in latents])
        self.detail.append(
            [
                torch.nn.functional.adaptive_avg_pool2d(gradient, (z.shape[-2], z.shape[-1])).flatten().cpu()
                for z in latents
            ]
        )

    def of(self, index: int, keys: set[str] | None = None) -> tuple[Tensor, Tensor]:
        """(z_cn, detail_n) of one latent over the images named, or all."""
        chosen = [i for i, key in enumerate(self.keys) if keys is None or key in keys]
        z_cn = torch.cat([self.latents[i][index] for i in chosen], dim=1)
        return z_cn, torch.cat([self.detail[i][index] for i in chosen])


def _detail(h_bchw: Tensor) -> Tensor:
    """Squared gradient of h, smoothed over 3x3: 1 1 H W."""
    dx = torch.nn.functional.pad(h_bchw[..., 1:] - h_bchw[..., :-1], (0, 1)).square().sum(1, keepdim=True)
    dy = (
        torch.nn.functional.pad(h_bchw[..., 1:, :] - h_bchw[..., :-1, :], (0, 0, 0, 1))
        .square()
        .sum(1, keepdim=True)
    )
    return torch.nn.functional.avg_pool2d(dx + dy, 3, 1, 1, count_include_pad=False)


def _moments(z_cn: Tensor, stratum_n: Tensor, strata: int) -> list[tuple[float, Tensor, Tensor]]:
    """(count, mean, covariance) per stratum."""
    result = []
    for stratum in range(strata):
        part = z_cn[:, stratum_n == stratum]
        mean = part.mean(1)
        centred = part - mean[:, None]
        covariance = centred @ centred.T / max(part.shape[1], 1)
        result.append((float(part.shape[1]), mean.double(), covariance.double()))
    return result


def _excess(
    clean: tuple[Tensor, Tensor], degraded: tuple[Tensor, Tensor], strata: int = 8
) -> tuple[Tensor, Tensor]:
    """mean(z_y) - mean(z_x) and Cov(z_y) - Cov(z_x), compared within strata of detail.

    Strata weigh by their count over the fourth power of the clean variance: flat areas, where the scene
    adds little to a difference of covariances, count most. Least squares for Gaussian latents would take
    the square; details have heavier tails, and the fourth power came closest to known noise.
    """
    (zx, detail_x), (zy, detail_y) = clean, degraded
    stride = max(1, len(detail_y) // 100_000)
    edges = torch.quantile(detail_y[::stride], torch.linspace(0, 1, strata + 1)[1:-1])
    parts_x = _moments(zx, torch.bucketize(detail_x, edges), strata)
    parts_y = _moments(zy, torch.bucketize(detail_y, edges), strata)
    channels = zx.shape[0]
    total, mean = 0.0, torch.zeros(channels, dtype=torch.float64)
    covariance = torch.zeros(channels, channels, dtype=torch.float64)
    for (nx, mx, cx), (ny, my, cy) in zip(parts_x, parts_y, strict=True):
        if min(nx, ny) < 2:
            continue
        weight = 1 / (1 / nx + 1 / ny) / float(torch.diagonal(cx).mean()) ** 4
        total += weight
        mean += weight * (my - mx)
        covariance += weight * (cy - cx)
    return mean / total, covariance / total


@torch.no_grad()
def start_from_moments(
    prior: LatentPrior, clean: LatentSample, degraded: LatentSample, generator: torch.Generator
) -> list[list[str]]:
    """The closed form in many dimensions: mu = mean(z_y) - mean(z_x), M M^T = positive part of
    Cov(z_y) - Cov(z_x) (DeFlow, appendix A, B). With K components, over K clusters of images.

    Returns the degraded images' keys per component. Raises TrainingError without images.
    """
    keys = sorted(set(degraded.keys))
    if not keys or not clean.keys:
        raise TrainingError("the moment-matched start needs images of both domains")
    clusters = _cluster(degraded, keys, prior.components, generator)
    _set_moments(prior, clean, degraded, clusters)
    return clusters


@torch.no_grad()
def refresh_from_moments(prior: LatentPrior, clean: LatentSample, degraded: LatentSample) -> list[list[str]]:
    """The closed form again, for a flow that has moved on: images stay with their likeliest component.

    An image belongs to a component by the log-densities of all its patches (one step of hard EM).
    """
    keys = sorted(set(degraded.keys))
    scores = {key: torch.zeros(prior.components, dtype=torch.float64) for key in keys}
    weight = prior.shared()[0].mean
    for key, latents in zip(degraded.keys, degraded.latents, strict=True):
        parts = [z[None, :, :, None].to(weight) for z in latents]
        scores[key] += prior.log_prob_components(parts)[0].double().cpu()
    clusters: list[list[str]] = [[] for _ in range(prior.components)]
    for key in keys:
        clusters[int(scores[key].argmax())].append(key)
    _set_moments(prior, clean, degraded, clusters)
    return clusters


def _set_moments(
    prior: LatentPrior, clean: LatentSample, degraded: LatentSample, clusters: Sequence[Sequence[str]]
) -> None:
    """mu, M and the weight of every component from its images; of all images for an empty one."""
    for index, latent in enumerate(prior.shared()):
        for k, members in enumerate(clusters):
            mean, covariance = _excess(clean.of(index), degraded.of(index, set(members or degraded.keys)))
            latent.set_moments(k, mean, covariance)
    sizes = torch.tensor([float(max(len(members), 0.5)) for members in clusters])
    prior.weight_logits.copy_((sizes / sizes.sum()).log())


def _cluster(
    sample: LatentSample, keys: list[str], count: int, generator: torch.Generator, rounds: int = 25
) -> list[list[str]]:
    """k-means of the images' log-variances of latents along the eigenvectors of the pooled covariance."""
    if count == 1 or len(keys) <= count:
        return [[key] for key in keys[: count - 1]] + [keys[count - 1 :]] if count > 1 else [keys]
    latents = range(len(sample.latents[0]))
    bases = [torch.linalg.eigh(torch.cov(sample.of(i)[0]))[1] for i in latents]
    rows = []
    for key in keys:
        parts = []
        for index, basis in zip(latents, bases, strict=True):
            along = (basis.T @ sample.of(index, {key})[0]).var(1)
            parts.append(along.clamp_min(1e-6).log() / len(along) ** 0.5)
        rows.append(torch.cat(parts))
    points = torch.stack(rows)
    # start: spread along the first principal direction, so that no component begins empty
    centred = points - points.mean(0)
    direction = torch.linalg.svd(centred, full_matrices=False)[2][0]
    order = torch.argsort(centred @ direction)
    centres = torch.stack([points[part].mean(0) for part in torch.chunk(order, count)])
    nearest = torch.zeros(len(keys), dtype=torch.long)
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(1)
        for k in range(count):
            if bool((nearest == k).any()):
                centres[k] = points[nearest == k].mean(0)
            else:
                centres[k] = points[int(torch.randint(len(keys), (1,), generator=generator))]
    return [[keys[i] for i in torch.nonzero(nearest == k)[:, 0].tolist()] for k in range(count)]
