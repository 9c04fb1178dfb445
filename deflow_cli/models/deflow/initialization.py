"""Start: where training begins, by closed forms on a first sample of data instead of at zero."""

from __future__ import annotations

import torch
from torch import Tensor

from deflow_cli.layers.invertible.coupling import FlowStep
from deflow_cli.layers.invertible.invconv import InvertibleConv1x1
from deflow_cli.layers.invertible.split import Split
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


def _subtract(injector: CouplingNet, features: LevelFeatures, target_bchw: Tensor) -> Tensor:
    """Start the injector's shift at the target's regression on its hidden features; returns what is left."""
    features = features.to(injector.weight_in.dtype)  # bfloat16 from an encoder that computes in it
    hidden = injector.hidden(None, injector.condition_term(features))
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
