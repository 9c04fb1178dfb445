"""Plain: the flow in the published order of computation, on the weights of a DeFlow or SRFlow model.

Features of h once per image, enlarged and joined; then every net in every pass over the joint input (z1, ft),
ActNorms on their own, products of LU factors anew. What speed is measured against, and a second opinion on
the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from deflow_cli.kernels.reference import ScaleForm
from deflow_cli.layers.invertible.actnorm import ActNorm
from deflow_cli.layers.invertible.coupling import FlowStep, LinearStep
from deflow_cli.layers.invertible.flow import ConditionalFlow
from deflow_cli.layers.invertible.invconv import PointwiseMatrix
from deflow_cli.layers.invertible.split import Split
from deflow_cli.layers.invertible.squeeze import Squeeze
from deflow_cli.layers.networks.condition_encoder import ConditionEncoder
from deflow_cli.layers.networks.conditioned import CouplingNet, ZeroConv3x3


def features_of(encoder: ConditionEncoder, h: Tensor) -> list[Tensor]:
    """Features per level, joined. A projection is left to ``encoder``: it has no published order."""
    if encoder.project is not None:
        return encoder(h)
    x = encoder.conv_first(h)
    kept = {}
    for index, block in enumerate(encoder.body):
        x = block(x)
        kept[index] = x
    last = x + encoder.conv_body(x)
    stacked = torch.cat([kept[index] for index in encoder.config.stacked_blocks], dim=1)
    own = {0: last}
    for index in range(1, encoder.up_convs + 1):
        larger = F.interpolate(own[index - 1], scale_factor=2, mode="nearest")
        own[index] = F.leaky_relu(encoder.get_submodule(f"conv_up{index}")(larger), 0.2)
    result = []
    for level in range(1, encoder.levels + 1):
        step = encoder.log2_downsample - level
        if step not in own:
            own[step] = F.interpolate(own[step + 1], scale_factor=0.5, mode="bilinear", align_corners=False)
        size = own[step].shape[-2:]
        result.append(torch.cat((own[step], F.interpolate(stacked, size=size, mode="nearest")), dim=1))
    return result


def encode(flow: ConditionalFlow, x: Tensor, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Image to latents (finest first), and the log-det per sample."""
    z, log_det, latents = x, x.new_zeros(x.shape[0]), []
    for layer, level in zip(flow.layers, flow.level_of_layer, strict=True):
        if isinstance(layer, Squeeze):
            z = F.pixel_unshuffle(z, 2)
            continue
        if isinstance(layer, Split):
            z1, z2 = z[:, : layer.kept_channels], z[:, layer.kept_channels :]
            mean, logs = _shift_and_raw(_zero_conv(layer.conv, z1))
            latents.append((z2 - mean) / (torch.exp(logs) + layer.eps))
            z, log_det = z1, log_det - logs.flatten(1).sum(1)
            continue
        assert isinstance(layer, LinearStep)
        z = F.conv2d(_norm(layer.actnorm, z), layer.invconv.matrix()[:, :, None, None])
        positions = z.shape[-2] * z.shape[-1]
        log_det = log_det + positions * (layer.actnorm.logs.sum() + layer.invconv.log_abs_det())
        if isinstance(layer, FlowStep):
            changes = [_coupled, _injected] if layer.variant.injector == "after" else [_injected, _coupled]
            for change in changes:
                z, part = change(layer, z, features[level - 1], encodes=True)
                log_det = log_det + part
    return [*latents, z], log_det


def decode(flow: ConditionalFlow, latents: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
    """Latents to image."""
    *rest, z = latents
    for layer, level in zip(reversed(flow.layers), reversed(flow.level_of_layer), strict=True):
        if isinstance(layer, Squeeze):
            z = F.pixel_shuffle(z, 2)
            continue
        if isinstance(layer, Split):
            mean, logs = _shift_and_raw(_zero_conv(layer.conv, z))
            z = torch.cat((z, rest.pop() * torch.exp(logs) + mean), dim=1)
            continue
        assert isinstance(layer, LinearStep)
        if isinstance(layer, FlowStep):
            changes = [_injected, _coupled] if layer.variant.injector == "after" else [_coupled, _injected]
            for change in changes:
                z, _ = change(layer, z, features[level - 1], encodes=False)
        z = F.conv2d(z, _inverse(layer.invconv)[:, :, None, None])
        z = z * torch.exp(-layer.actnorm.logs) - layer.actnorm.bias
    return z


def _coupled(layer: FlowStep, z: Tensor, ft: Tensor, *, encodes: bool) -> tuple[Tensor, Tensor]:
    z1, z2 = z[:, : layer.z1_channels], z[:, layer.z1_channels :]
    raw = _net(layer.coupling, torch.cat((z1, ft), dim=1))
    z2, log_det = _affine(z2, raw, layer.coupling_form, (layer.variant.encoding == "divide") == encodes)
    return torch.cat((z1, z2), dim=1), log_det


def _injected(layer: FlowStep, z: Tensor, ft: Tensor, *, encodes: bool) -> tuple[Tensor, Tensor]:
    assert layer.injector is not None
    divides = (layer.variant.encoding == "divide") == encodes
    return _affine(z, _net(layer.injector, ft), layer.scale_form, divides)


def _affine(z: Tensor, raw: Tensor, form: ScaleForm, divides: bool) -> tuple[Tensor, Tensor]:
    """z / s - b, or (z + b) s; and the log-det per sample."""
    shift, raw = _shift_and_raw(raw)
    scale, log_scale = _scale(form, raw)
    log_det = log_scale.flatten(1).sum(1)
    return (z / scale - shift, -log_det) if divides else ((z + shift) * scale, log_det)


def _net(net: CouplingNet, inputs: Tensor) -> Tensor:
    x = F.relu(_norm(net.norm_in, F.conv2d(inputs, net.weight_in, padding=1)))
    x = F.relu(_norm(net.norm_mid, F.conv2d(x, net.weight_mid)))
    return _zero_conv(net.conv_out, x)


def _zero_conv(conv: ZeroConv3x3, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, padding=1) * torch.exp(conv.logs * 3)


def _norm(norm: ActNorm, x: Tensor) -> Tensor:
    return (x + norm.bias) * torch.exp(norm.logs)


def _inverse(conv: PointwiseMatrix) -> Tensor:
    return torch.linalg.inv(conv.matrix(torch.float64)).to(next(conv.parameters()).dtype)


def _shift_and_raw(raw: Tensor) -> tuple[Tensor, Tensor]:
    return raw[:, 0::2], raw[:, 1::2]


def _scale(form: ScaleForm, raw: Tensor) -> tuple[Tensor, Tensor]:
    if form.kind == "published":
        scale = torch.sigmoid(raw + 2) + form.eps
        return scale, torch.log(scale)
    log_scale = form.bound * torch.atan(raw / form.bound)
    return torch.exp(log_scale), log_scale
