"""Initialization of the flow from a first batch: ActNorms, and closed forms in place of zero weights."""

from __future__ import annotations

import torch
from torch import Tensor

from deflow_cli.models.deflow.latent import LatentPrior
from deflow_cli.models.deflow.model import DeFlow


@torch.no_grad()
def start_flow(model: DeFlow, x_bchw: Tensor, h_bchw: Tensor, *, whiten: bool) -> None:
    """Start every ActNorm from data and, with ``whiten``, the linear part of the flow by regression.

    x_bchw: a batch of both domains, h_bchw: its noisy h (B C H / s W / s). See
    :meth:`deflow_cli.layers.invertible.flow.ConditionalFlow.start`.
    """
    features = model.encoder.features(h_bchw) if model.encoder is not None else None
    model.flow.start(x_bchw, features, whiten=whiten)


def start_constant(prior: LatentPrior, scale: float = 0.1) -> None:
    """M = scale I for every component; several components get scales spread around it by factors of 2."""
    for latent in prior.shared():
        for k in range(prior.components):
            factor = scale * 2.0 ** (k - (prior.components - 1) / 2)
            mean = torch.zeros_like(latent.mean[k])
            latent.set_moments(k, mean, factor**2 * torch.eye(latent.channels).to(mean))
