"""Initialisation: where training begins, by closed forms on a first sample of data instead of at zero."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from deflow_cli.layers.invertible.coupling import FlowStep
from deflow_cli.layers.invertible.invconv import Pointwise
from deflow_cli.layers.networks.conditioned import CouplingNet, ZeroConv3x3
from deflow_cli.layers.networks.upsampled import LevelFeatures
from deflow_cli.models.deflow.latent import LatentPrior
from deflow_cli.models.deflow.model import DeFlow

WHITENED_STEP = 2  # the step of each level whose 1x1 starts as a whitening


@torch.no_grad()
def start_flow(model: DeFlow, x_bchw: Tensor, h_bchw: Tensor, *, whiten: bool) -> None:
    """Start every ActNorm from data and, with ``whiten``, the linear part of the flow by regression.

    With ``whiten`` the first injector of each level subtracts from z its ridge regression on the injector's
    own hidden features of h, and the 1x1 of the level's second step whitens what is left: the latents begin
    as decorrelated detail that h does not explain, of unit variance. Levels of one step are not whitened.
    The couplings start at the identity: started by regression too, they amplified noise.

    x_bchw: a batch of both domains, h_bchw: its noisy h (B C H / s W / s). The start is computed in the
    parameters' own type, whatever precision the nets are set to.
    """
    model.pending_start()
    if not whiten:
        model.encode_conditioned(x_bchw, model.prepare(h_bchw))
        return
    features = model.encoder.features(h_bchw) if model.encoder is not None else None
    z = x_bchw
    flow = model.flow
    first_steps = {places[0] for places in flow.step_layers.values()}
    whitened_steps = {places[WHITENED_STEP - 1] for places in flow.step_layers.values() if len(places) > 1}
    for place, (layer, level) in enumerate(zip(flow.bijections(), flow.level_of_layer, strict=True)):
        seen = None if features is None else features[level - 1]
        if place in whitened_steps:
            step = cast(FlowStep, layer)
            _whiten(step.actnorm.scale(z), step.invconv)
        z = layer.encode_from_features(z, seen).z
        if place in first_steps and seen is not None:
            injector = cast(FlowStep, layer).injector
            assert injector is not None
            z = _subtract(injector, seen, z)


def _subtract(injector: CouplingNet, features: LevelFeatures, target_bchw: Tensor) -> Tensor:
    """Start the injector's shift at the target's regression on its hidden features; returns what is left."""
    features = features.to(injector.weight_in.dtype)  # bfloat16 from an encoder that computes in it
    hidden = injector.hidden(None, injector.condition_term(features))
    _regress(injector.conv_out, hidden, target_bchw)
    return target_bchw - injector.conv_out(hidden)[:, 0::2]


def _whiten(z_bchw: Tensor, conv: Pointwise) -> None:
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
