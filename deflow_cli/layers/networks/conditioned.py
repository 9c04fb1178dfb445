"""The small convolutional networks that drive couplings, injectors and splits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.kernels.reference import ScaleForm
from deflow_cli.layers.invertible.actnorm import ActNorm
from deflow_cli.layers.invertible.folding import FoldCache
from deflow_cli.layers.invertible.pointwise import conv1x1
from deflow_cli.layers.networks.upsampled import FeatureConv, LevelFeatures

LOG_CHI_SQUARE = 1.27  # minus the mean logarithm of the square of a standard normal
SMALLEST_SHARE = 1e-3  # of a channel's variance that is added to squares before their logarithm
STEEPEST = 1.3  # log scale over the bound at most, where a regression sets it; pi / 2 is the limit


class ZeroConv3x3(nn.Module):
    """3x3 convolution that starts at zero, its output times exp(3 logs) (Glow's "conv zeros")."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.logs = nn.Parameter(torch.zeros(out_channels, 1, 1))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the plain convolution that does the same."""
        factor = torch.exp(self.logs * 3.0)
        return self.weight * factor[..., None], self.bias * factor.flatten()

    def forward(self, x_bchw: Tensor) -> Tensor:
        return F.conv2d(x_bchw, *self.folded(), padding=1)

    @torch.no_grad()
    def regress(self, hidden_bchw: Tensor, target_bchw: Tensor, first: int, ridge: float = 1e-3) -> None:
        """Set every second channel to the target's ridge regression on 3x3 neighbourhoods of ``hidden``.

        first: 0 for the even channels, which are shifts, 1 for the odd ones, which are raw scales.
        """
        columns = F.unfold(hidden_bchw, 3, padding=1).transpose(0, 1).flatten(1)
        design = torch.cat((columns, torch.ones_like(columns[:1])))
        target = target_bchw.transpose(0, 1).flatten(1)
        gram = (design @ design.T).double()
        eye = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
        gram += ridge * gram.diagonal().mean() * eye
        weights = torch.linalg.solve(gram, (design @ target.T).double()).T
        self.weight[first::2] = weights[:, :-1].reshape(self.weight[first::2].shape).to(self.weight.dtype)
        self.bias[first::2] = weights[:, -1].to(self.bias.dtype)


class NetParameters(NamedTuple):
    """The parameters of a network, in the order of its layers."""

    weight_in: Tensor
    norm_in_bias: Tensor
    norm_in_logs: Tensor
    weight_mid: Tensor
    norm_mid_bias: Tensor
    norm_mid_logs: Tensor
    out_weight: Tensor
    out_bias: Tensor
    out_logs: Tensor


class NetWeights(NamedTuple):
    """A network's convolutions with its ActNorms folded in; of the first one, the part that sees z1."""

    first: Tensor
    first_bias: Tensor
    mid: Tensor
    mid_bias: Tensor
    out: Tensor
    out_bias: Tensor


class CouplingNet(nn.Module):
    """conv 3x3, ActNorm, ReLU, conv 1x1, ActNorm, ReLU, zero conv 3x3, applied to (z1, ft).

    The first convolution is linear in its input, so the part that sees the features ft is computed once per
    image by ``condition_term`` and serves every encode, decode and further sample. Each ActNorm is folded
    into the convolution before it.
    """

    def __init__(
        self,
        z_channels: int,
        condition_channels: int,
        hidden_channels: int,
        out_channels: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        inputs = z_channels + condition_channels
        self.z_channels = z_channels
        self.weight_in = nn.Parameter(torch.empty(hidden_channels, inputs, 3, 3))
        self.norm_in = ActNorm(hidden_channels)
        self.weight_mid = nn.Parameter(torch.empty(hidden_channels, hidden_channels, 1, 1))
        self.norm_mid = ActNorm(hidden_channels)
        self.conv_out = ZeroConv3x3(hidden_channels, out_channels)
        self._cache = FoldCache()
        with torch.no_grad():
            self.weight_in.normal_(0.0, 0.05, generator=generator)
            self.weight_mid.normal_(0.0, 0.05, generator=generator)

    def condition_term(self, features: LevelFeatures) -> Tensor:
        """The first convolution restricted to the features, with its bias (B hidden H W).

        While the ActNorms wait for their data-dependent start the term is left unnormalised, since the
        start is computed from what comes before the ActNorm.
        """
        channels, factor = features.own.shape[1], features.factor

        def fold() -> FeatureConv:
            weight = self.weight_in[:, self.z_channels :]
            if self.pending:
                return FeatureConv.of(weight, torch.zeros_like(weight[:, 0, 0, 0]), channels, factor)
            return FeatureConv.of(*self.norm_in.into(weight), channels, factor)

        weights = [self.weight_in, *self.norm_in.parameters()]
        conv = fold() if self.pending else self._cache.get((channels, factor), weights, fold)
        return conv(features)

    def layer_parameters(self) -> NetParameters:
        """The parameters, by name."""
        return NetParameters(
            self.weight_in,
            self.norm_in.bias,
            self.norm_in.logs,
            self.weight_mid,
            self.norm_mid.bias,
            self.norm_mid.logs,
            self.conv_out.weight,
            self.conv_out.bias,
            self.conv_out.logs,
        )

    @property
    def pending(self) -> bool:
        """Whether the ActNorms start from the next batch."""
        return self.norm_in.pending

    def hidden(self, z1_bchw: Tensor | None, condition_term: Tensor | None) -> Tensor:
        """Activations before the last convolution.

        ``z1_bchw`` or ``condition_term`` may be absent. Without z1 the term is overwritten, to save memory.
        """
        if self.pending:
            return self._started(z1_bchw, condition_term)
        weights = self.folded()
        x = condition_term
        if z1_bchw is not None:
            bias = weights.first_bias if condition_term is None else None  # the term has it already
            x = F.conv2d(z1_bchw, weights.first, bias, padding=1)
            x = x if condition_term is None else x + condition_term
        assert x is not None
        x = F.relu(x, inplace=True)
        return conv1x1(x, weights.mid, weights.mid_bias, relu=True)

    def forward(self, z1_bchw: Tensor | None, condition_term: Tensor | None) -> Tensor:
        x = self.hidden(z1_bchw, condition_term)
        weights = self.folded()
        return F.conv2d(x, weights.out, weights.out_bias, padding=1)

    @torch.no_grad()
    def start_as_regression(
        self, features: LevelFeatures, target_bchw: Tensor, form: ScaleForm | None = None
    ) -> Tensor:
        """Start as the target's regression on this network's hidden features; returns what is left of it.

        For a network that sees the features alone (an injector that divides). The shift becomes the mean that
        the features explain. form: a bounded scale, which first becomes the standard deviation around that
        mean, as the features explain its logarithm; None: scales start at 1.
        """
        features = features.to(self.weight_in.dtype)  # an encoder may have computed them in bfloat16
        hidden = self.hidden(None, self.condition_term(features))
        self.conv_out.regress(hidden, target_bchw, first=0)
        left = target_bchw - self.conv_out(hidden)[:, 0::2]
        if form is None:
            return left
        variance = left.square().mean((0, 2, 3), keepdim=True)
        log_std = 0.5 * (torch.log(left.square() + SMALLEST_SHARE * variance) + LOG_CHI_SQUARE)
        limit = STEEPEST * form.bound
        raw = form.bound * torch.tan(log_std.clamp(-limit, limit) / form.bound)
        self.conv_out.regress(hidden, raw, first=1)
        scale, _ = form(self.conv_out(hidden)[:, 1::2])
        self.conv_out.regress(hidden, target_bchw / scale, first=0)
        return target_bchw / scale - self.conv_out(hidden)[:, 0::2]

    def folded(self) -> NetWeights:
        """The network's plain convolutions."""
        return self._cache.get("net", list(self.parameters()), self._fold)

    def _fold(self) -> NetWeights:
        first = self.norm_in.into(self.weight_in[:, : self.z_channels])
        mid, mid_bias = self.norm_mid.into(self.weight_mid)
        return NetWeights(*first, mid[:, :, 0, 0], mid_bias, *self.conv_out.folded())

    def _started(self, z1_bchw: Tensor | None, condition_term: Tensor | None) -> Tensor:
        x = condition_term
        if z1_bchw is not None:
            x = F.conv2d(z1_bchw, self.weight_in[:, : self.z_channels], padding=1)
            x = x if condition_term is None else x + condition_term
        assert x is not None
        x = F.relu(self.norm_in.scale(x))
        if z1_bchw is not None and condition_term is not None:
            # further passes with these conditions expect the term with the ActNorm applied
            condition_term.copy_(self.norm_in.scale(condition_term))
        return F.relu(self.norm_mid.scale(F.conv2d(x, self.weight_mid)))
