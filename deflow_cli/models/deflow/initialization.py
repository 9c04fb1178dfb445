"""Initialization of the flow from a first batch: ActNorms, and closed forms in place of zero weights."""

from __future__ import annotations

import torch
from torch import Tensor

from deflow_cli.models.deflow.latent import LatentPrior
from deflow_cli.models.deflow.model import DeFlow

EXPLAINED_STEP = 1  # the step of each level whose injector starts as a regression on h
WHITENED_STEP = 2  # the step of each level whose 1x1 convolution starts as a whitening


@torch.no_grad()
def start_flow(model: DeFlow, x_bchw: Tensor, h_bchw: Tensor, *, whiten: bool) -> None:
    """Start every ActNorm from data and, with ``whiten``, the linear part of the flow by regression.

    With ``whiten`` the first injector of each level subtracts from z its ridge regression on the injector's
    hidden features of h, and the 1x1 convolution of the level's second step whitens the residual: the latents
    begin as decorrelated detail that h does not explain, of unit variance. Levels of one step are not
    whitened. The couplings start at the identity: started by regression too, they amplified noise.

    x_bchw: a batch of both domains, h_bchw: its noisy h (B C H / s W / s). The start is computed in the
    parameters' type, whatever precision the networks are set to.
    """
    model.start_from_next_batch()
    if not whiten:
        model.encode_conditioned(x_bchw, model.prepare(h_bchw))
        return
    features = model.encoder.features(h_bchw) if model.encoder is not None else None
    z, level_before, step = x_bchw, 0, 0
    for layer, level in zip(model.flow.bijections(), model.flow.level_of_layer, strict=True):
        if level != level_before:
            level_before, step = level, 0
        step += layer.has_networks
        seen = features[level - 1] if features is not None else None
        encoded = layer.start(
            z,
            seen,
            whiten=layer.has_networks and step == WHITENED_STEP,
            explain=layer.has_networks and step == EXPLAINED_STEP,
        )
        z, _ = layer.parted(encoded)


def start_constant(prior: LatentPrior, scale: float = 0.1) -> None:
    """M = scale I for every component; several components get scales spread around it by factors of 2."""
    for latent in prior.shared():
        for k in range(prior.components):
            factor = scale * 2.0 ** (k - (prior.components - 1) / 2)
            mean = torch.zeros_like(latent.mean[k])
            latent.set_moments(k, mean, factor**2 * torch.eye(latent.channels).to(mean))
