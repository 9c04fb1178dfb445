"""Runs of flow steps: what steps of equal shapes compute from their parameters and from h, all at once.

On a GPU a training step is bound by the number of its kernels. Steps that follow one another at one level
have equal shapes, so folding their parameters, and everything that depends on the features alone, is one
operation for the run in place of one for each step; what depends on z is left to go through the steps in
turn. All values are those of the steps themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from deflow_cli.kernels import dispatch
from deflow_cli.kernels.reference import ScaleForm
from deflow_cli.layers.invertible.base import RunSettings
from deflow_cli.layers.invertible.pointwise import conv1x1
from deflow_cli.layers.invertible.variant import FlowVariant
from deflow_cli.layers.networks.compiling import maybe_compiled
from deflow_cli.layers.networks.conditioned import NetParameters
from deflow_cli.layers.networks.recompute import computed_anew
from deflow_cli.layers.networks.upsampled import FeatureConv, LevelFeatures

ALIGNED_CHANNELS = 8  # tensor cores multiply bfloat16 channels in eights; convolutions of others are slower


class NetStack(NamedTuple):
    """Networks of K steps with their ActNorms folded in, in the type they compute in.

    first: of the first convolution the part that sees z1 (K hidden C 3 3), for couplings; condition,
    condition_bias: its part that sees the features, of all networks as one convolution (K hidden, C', 3, 3);
    mid (K hidden hidden), out (K O hidden 3 3) and their biases. Channels of z1 and of the output may be
    padded with zeros.
    """

    first: Tensor
    condition: Tensor
    condition_bias: Tensor
    mid: Tensor
    mid_bias: Tensor
    out: Tensor
    out_bias: Tensor


class CouplingWeights(NamedTuple):
    """One step's part of a ``NetStack`` of couplings."""

    first: Tensor
    mid: Tensor
    mid_bias: Tensor
    out: Tensor
    out_bias: Tensor


Affine = tuple[Tensor, Tensor]
"""Weight and bias of the linear map that a step's ActNorm and 1x1 convolution are together."""
StepEncoder = Callable[[Tensor, Affine], tuple[Tensor, Tensor, Tensor]]
"""Takes a step's input and linear map; returns its output and, per sample, the log-dets of its networks."""


@dataclass(frozen=True)
class StepNetworks:
    """The networks of K steps of equal shapes, and how they are used.

    z1_channels: channels of z that a coupling sees. dtype: what the networks compute in.
    """

    couplings: Sequence[NetParameters]
    injectors: Sequence[NetParameters]
    z1_channels: int
    form: ScaleForm
    variant: FlowVariant
    dtype: torch.dtype
    settings: RunSettings

    def encoders(self, features: LevelFeatures) -> list[StepEncoder]:
        """For each step, how it encodes images with these features."""
        compiled = self.settings.compiled
        if self.settings.recompute:
            return self._encoders_alone(features.joined())
        fold = maybe_compiled(fold_nets, compiled)
        with torch.autocast(features.own.device.type, enabled=False):
            couplings = fold(self.couplings, self.z1_channels, self.dtype)
            injectors = fold(self.injectors, 0, self.dtype)
            terms = condition_terms(features, couplings)
            raws = injector_outputs(features, injectors, compiled)
        step = partial(maybe_compiled(encode_step, compiled), form=self.form, variant=self.variant)
        return [
            partial(step, coupling=coupling, term=term, injector=injector)
            for coupling, term, *injector in zip(
                parts_of(couplings), terms, raws, injectors.out_bias.unbind(), strict=True
            )
        ]

    def _encoders_alone(self, features: Tensor) -> list[StepEncoder]:
        """Each step folds its own parameters, so that nothing but its input is kept."""
        step = partial(
            maybe_compiled(encode_step_alone, self.settings.compiled),
            features=features,
            dtype=self.dtype,
            form=self.form,
            variant=self.variant,
        )
        return [
            partial(computed_anew, partial(step, coupling=coupling, injector=injector))
            for coupling, injector in zip(self.couplings, self.injectors, strict=True)
        ]


def fold_linear(
    actnorm_biases: Sequence[Tensor],
    actnorm_logs: Sequence[Tensor],
    matrices_kcc: Tensor,
    log_dets_k: Tensor,
) -> tuple[list[Affine], Tensor]:
    """ActNorm and 1x1 convolution of each of K steps as one affine map; the log-det of all at a position."""
    logs_kc = torch.stack(list(actnorm_logs)).flatten(1)
    weight_kcc = matrices_kcc * torch.exp(logs_kc)[:, None]
    bias_kc = (weight_kcc @ torch.stack(list(actnorm_biases)).flatten(1)[..., None]).squeeze(-1)
    maps = list(zip(weight_kcc.unbind(), bias_kc.unbind(), strict=True))
    return maps, logs_kc.sum() + log_dets_k.sum()


def fold_nets(nets: Sequence[NetParameters], z_channels: int, dtype: torch.dtype) -> NetStack:
    """Stack networks of equal shapes and fold their ActNorms and output scales into the convolutions."""
    stacked = NetParameters(*(torch.stack(tensors) for tensors in zip(*nets, strict=True)))
    weight_in, bias_in = _scaled(stacked.weight_in, stacked.norm_in_bias, stacked.norm_in_logs)
    mid, mid_bias = _scaled(stacked.weight_mid, stacked.norm_mid_bias, stacked.norm_mid_logs)
    factor = torch.exp(stacked.out_logs * 3.0)
    out, out_bias = stacked.out_weight * factor[..., None], stacked.out_bias * factor.flatten(1)
    aligned = ALIGNED_CHANNELS if dtype.itemsize < 4 else 1
    first = _padded(weight_in[:, :, :z_channels], 2, -z_channels % aligned)
    spare = -out.shape[1] % aligned
    out, out_bias = _padded(out, 1, spare), _padded(out_bias, 1, spare)
    return NetStack(
        _channels_last(first, dtype),
        _channels_last(weight_in[:, :, z_channels:], dtype).flatten(0, 1),
        bias_in.flatten().to(dtype),
        mid[..., 0, 0].to(dtype),
        mid_bias.to(dtype),
        _channels_last(out, dtype),
        out_bias.to(dtype),
    )


def condition_terms(features: LevelFeatures, nets: NetStack) -> list[Tensor]:
    """What the features contribute to the first convolution of each network: K tensors B hidden H W."""
    return [nhwc.permute(0, 3, 1, 2) for nhwc in _first_outputs(features, nets).unbind(3)]


def injector_outputs(features: LevelFeatures, nets: NetStack, compiled: bool = False) -> list[Tensor]:
    """The outputs of networks that see the features alone, without the last bias: K tensors B O H W.

    The step that uses one adds its bias, which a compiled step does in passing.
    """
    x_bhwkc = _first_outputs(features, nets)
    size = x_bhwkc.shape[:3]
    hidden = maybe_compiled(_hidden_of_all, compiled)
    hidden_kpc = hidden(x_bhwkc.permute(3, 0, 1, 2, 4).flatten(1, 3), nets.mid, nets.mid_bias)
    return [
        F.conv2d(hidden.unflatten(0, size).permute(0, 3, 1, 2), weight, padding=1)
        for hidden, weight in zip(hidden_kpc.unbind(), nets.out.unbind(), strict=True)
    ]


def encode_step(
    x_bchw: Tensor,
    linear: Affine,
    *,
    coupling: CouplingWeights,
    term: Tensor,
    injector: Sequence[Tensor],
    form: ScaleForm,
    variant: FlowVariant,
) -> tuple[Tensor, Tensor, Tensor]:
    """One flow step from folded parameters, as a ``StepEncoder``.

    term: of ``condition_terms``. injector: an output of ``injector_outputs``, and its bias.
    """
    z = conv1x1(x_bchw, *linear)
    injector_raw, injector_bias = injector
    injector_raw = (injector_raw + injector_bias[:, None, None])[:, : 2 * z.shape[1]]
    affine = dispatch.coupling_forward if variant.encoding == "divide" else dispatch.coupling_inverse
    if variant.injector == "after":
        z, first = _couple(z, coupling, term, form, variant)
        z, second = affine(z, injector_raw, form)
    else:
        z, first = affine(z, injector_raw, form)
        z, second = _couple(z, coupling, term, form, variant)
    return z, first, second


def encode_step_alone(
    x_bchw: Tensor,
    linear: Affine,
    *,
    features: Tensor,
    coupling: NetParameters,
    injector: NetParameters,
    dtype: torch.dtype,
    form: ScaleForm,
    variant: FlowVariant,
) -> tuple[Tensor, Tensor, Tensor]:
    """``encode_step`` from unfolded parameters; it computes its conditions itself."""
    level = LevelFeatures(features)
    couplings = fold_nets([coupling], x_bchw.shape[1] // 2, dtype)
    (term,) = condition_terms(level, couplings)
    injectors = fold_nets([injector], 0, dtype)
    output = (*injector_outputs(level, injectors), injectors.out_bias[0])
    (weights,) = parts_of(couplings)
    return encode_step(
        x_bchw, linear, coupling=weights, term=term, injector=output, form=form, variant=variant
    )


def parts_of(nets: NetStack) -> list[CouplingWeights]:
    """The weights of each coupling of a stack."""
    stacked = (nets.first, nets.mid, nets.mid_bias, nets.out, nets.out_bias)
    return [CouplingWeights(*parts) for parts in zip(*(tensor.unbind() for tensor in stacked), strict=True)]


def _couple(
    z: Tensor, weights: CouplingWeights, term: Tensor, form: ScaleForm, variant: FlowVariant
) -> tuple[Tensor, Tensor]:
    affine = dispatch.coupling_forward if variant.encoding == "divide" else dispatch.coupling_inverse
    z1_channels = z.shape[1] // 2
    z1, z2 = z.split((z1_channels, z.shape[1] - z1_channels), dim=1)
    seen = _padded(z1.to(weights.first.dtype), 1, weights.first.shape[1] - z1_channels)
    hidden = F.relu(F.conv2d(seen, weights.first, padding=1) + term)
    hidden = conv1x1(hidden, weights.mid, weights.mid_bias, relu=True)
    raw = F.conv2d(hidden, weights.out, weights.out_bias, padding=1)[:, : 2 * z2.shape[1]]
    z2, log_det = affine(z2, raw, variant.coupling_form(form))
    return torch.cat((z1, z2), dim=1), log_det


def _first_outputs(features: LevelFeatures, nets: NetStack) -> Tensor:
    """The first convolution of all networks, of the features alone: B H W K hidden."""
    conv = FeatureConv.of(nets.condition, nets.condition_bias, features.own.shape[1], features.factor)
    y = conv(features.to(nets.condition.dtype))
    return y.permute(0, 2, 3, 1).unflatten(-1, (len(nets.mid), -1))


def _hidden_of_all(x_kpc: Tensor, mid: Tensor, mid_bias: Tensor) -> Tensor:
    if len(mid) == 1:
        return F.relu(F.linear(F.relu(x_kpc[0]), mid[0], mid_bias[0]))[None]
    return F.relu(torch.baddbmm(mid_bias[:, None], F.relu(x_kpc), mid.mT))


def _padded(tensor: Tensor, dim: int, spare: int) -> Tensor:
    """The tensor with ``spare`` zeros more at the end of a dimension; itself where that is none."""
    return F.pad(tensor, (0, 0) * (tensor.dim() - 1 - dim) + (0, spare)) if spare else tensor


def _scaled(weight: Tensor, bias: Tensor, logs: Tensor) -> tuple[Tensor, Tensor]:
    """``ActNorm.into`` of stacked weights and ActNorms."""
    factor_ko = torch.exp(logs).flatten(1)
    return weight * factor_ko[..., None, None, None], bias.flatten(1) * factor_ko


def _channels_last(weight_koihw: Tensor, dtype: torch.dtype) -> Tensor:
    """Stacked weights in another type, each of them in channels-last order."""
    last = weight_koihw.permute(0, 1, 3, 4, 2).to(dtype, memory_format=torch.contiguous_format).contiguous()
    return last.permute(0, 1, 4, 2, 3)
