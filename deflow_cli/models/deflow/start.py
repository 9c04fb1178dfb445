"""Start: where training begins, by closed forms on a first sample of data instead of at zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ...errors import TrainingError
from ...layers.coupling import FlowStep, TransitionStep
from ...layers.invconv import InvertibleConv1x1
from ...layers.split import Split
from .latent import LatentPrior
from .model import Conditions, DeFlow

Latents = list[Tensor]


@torch.no_grad()
def start_flow(model: DeFlow, x_bchw: Tensor, h_bchw: Tensor, *, whiten: bool) -> None:
    """Start every ActNorm from data and, with ``whiten``, the linear part of the flow by regression.

    With ``whiten`` the first injector of each level subtracts from z its best linear prediction from the
    injector's own hidden features (ridge regression), and the next 1x1 whitens what is left: the latents
    begin as decorrelated detail that h does not explain, of unit variance.
    """
    model.pending_start()
    if not whiten:
        conditions = model.prepare(h_bchw)
        model.encode_conditioned(x_bchw, conditions)
        return
    features = model.encoder(h_bchw) if model.encoder is not None else None
    z = x_bchw
    steps_in_level = 0
    for layer, level in zip(model.flow.layers, model.flow.level_of_layer, strict=True):
        if isinstance(layer, FlowStep):
            steps_in_level += 1
            if steps_in_level == 2:
                _whiten(layer.actnorm.scale(z), layer.invconv)
            condition = layer.condition(features[level - 1]) if features is not None else None
            if steps_in_level == 1 and features is not None:
                z, _ = layer(z, condition)
                _regress(layer, features[level - 1], z)
                assert condition is not None
                shift = layer.condition(features[level - 1]).injector.shift
                z = z - shift
            else:
                z, _ = layer(z, condition)
        elif isinstance(layer, Split):
            z, _, _ = layer(z)
        else:
            steps_in_level = 0
            if isinstance(layer, TransitionStep):
                layer.actnorm.scale(z)
            z, _ = layer(z)


def _whiten(z_bchw: Tensor, conv: InvertibleConv1x1) -> None:
    """W = Q D^-1/2 E^T: unit covariance, in a random rotation Q (the 1x1's own start)."""
    flat = z_bchw.transpose(0, 1).flatten(1).double()
    values, vectors = torch.linalg.eigh(torch.cov(flat))
    floor = 1e-4 * values.max()
    whitening = (vectors / values.clamp_min(floor).sqrt()) @ vectors.T
    conv.set_matrix(conv.matrix(torch.float64) @ whitening)


def _regress(step: FlowStep, features_bchw: Tensor, target_bchw: Tensor, ridge: float = 1e-3) -> None:
    """Least squares for the injector's last convolution: its shift becomes E[z | ft], its scale stays."""
    assert step.injector is not None
    hidden = step.injector.hidden(None, step.injector.condition_term(features_bchw)).float()
    columns = torch.nn.functional.unfold(hidden, 3, padding=1).transpose(0, 1).flatten(1).double()
    design = torch.cat((columns, torch.ones_like(columns[:1])))
    target = target_bchw.transpose(0, 1).flatten(1).double()
    gram = design @ design.T
    gram += ridge * gram.diagonal().mean() * torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(gram, design @ target.T).T
    conv = step.injector.conv_out
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


class Moments:
    """Running first and second moments of latents, per image: what the moment-matched start needs."""

    def __init__(self, channels: Sequence[int]) -> None:
        self.channels = list(channels)
        self.count: dict[str, list[float]] = {}
        self.total: dict[str, list[Tensor]] = {}
        self.outer: dict[str, list[Tensor]] = {}

    def add(self, key: str, latents: Sequence[Tensor]) -> None:
        """Add one image's latents (each 1 C H W)."""
        if key not in self.total:
            self.count[key] = [0.0] * len(self.channels)
            self.total[key] = [torch.zeros(c, dtype=torch.float64) for c in self.channels]
            self.outer[key] = [torch.zeros(c, c, dtype=torch.float64) for c in self.channels]
        for index, z in enumerate(latents):
            flat = z.transpose(0, 1).flatten(1).double().cpu()
            self.count[key][index] += flat.shape[1]
            self.total[key][index] += flat.sum(1)
            self.outer[key][index] += flat @ flat.T

    def of(self, keys: Iterable[str], index: int) -> tuple[Tensor, Tensor]:
        """(mean, covariance) of one latent pooled over images."""
        keys = list(keys)
        count = sum(self.count[k][index] for k in keys)
        mean = torch.stack([self.total[k][index] for k in keys]).sum(0) / count
        outer = torch.stack([self.outer[k][index] for k in keys]).sum(0) / count
        return mean, outer - mean[:, None] * mean[None, :]


@torch.no_grad()
def start_from_moments(
    prior: LatentPrior, clean: Moments, degraded: Moments, generator: torch.Generator
) -> list[list[str]]:
    """The closed form in many dimensions: mu = mean(z_y) - mean(z_x), M M^T = positive part of
    Cov(z_y) - Cov(z_x) (DeFlow, appendix A, B). With K components, over K clusters of images.

    Returns the degraded images' keys per component. Raises TrainingError without images.
    """
    keys = sorted(degraded.total)
    if not keys or not clean.total:
        raise TrainingError("the moment-matched start needs images of both domains")
    clusters = _cluster(degraded, keys, prior.components, generator)
    for index, latent in enumerate(prior.shared()):
        clean_mean, clean_cov = clean.of(clean.total, index)
        pooled_mean, pooled_cov = degraded.of(keys, index)
        for k, members in enumerate(clusters):
            mean, cov = degraded.of(members, index) if members else (pooled_mean, pooled_cov)
            latent.set_moments(k, mean - clean_mean, cov - clean_cov)
    sizes = torch.tensor([float(max(len(members), 0.5)) for members in clusters])
    prior.weight_logits.copy_((sizes / sizes.sum()).log())
    return clusters


def _cluster(
    moments: Moments, keys: list[str], count: int, generator: torch.Generator, rounds: int = 25
) -> list[list[str]]:
    """k-means of the images' log-covariances of latents, in the eigenbasis of the pooled covariance."""
    if count == 1 or len(keys) <= count:
        return [[key] for key in keys[: count - 1]] + [keys[count - 1 :]] if count > 1 else [keys]
    rows = []
    bases = [torch.linalg.eigh(moments.of(keys, i)[1])[1] for i in range(len(moments.channels))]
    for key in keys:
        parts = []
        for index, basis in enumerate(bases):
            covariance = moments.of([key], index)[1]
            along = torch.einsum("ij,ik,kj->j", basis, covariance, basis)
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


def encode_for_start(model: DeFlow, x_bchw: Tensor, h_bchw: Tensor) -> Latents:
    """Latents of a batch, for the moments."""
    with torch.no_grad():
        conditions: Conditions = model.prepare(h_bchw)
        return model.encode_conditioned(x_bchw, conditions)[0]
