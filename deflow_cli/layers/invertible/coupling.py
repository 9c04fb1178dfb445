"""Flow step: ActNorm, 1x1, conditional affine coupling and affine injector, in DeFlow's inverted form."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from deflow_cli.kernels import dispatch
from deflow_cli.kernels.forms import ScaleForm
from deflow_cli.layers.invertible.actnorm import ActNorm
from deflow_cli.layers.invertible.base import Bijection
from deflow_cli.layers.invertible.folding import FoldCache
from deflow_cli.layers.invertible.invconv import InvertibleConv1x1
from deflow_cli.layers.invertible.pointwise import conv1x1
from deflow_cli.layers.networks.conditioned import CouplingNet
from deflow_cli.layers.networks.upsampled import LevelFeatures


class StepCondition(NamedTuple):
    """What one flow step needs of the conditioning image: independent of z, computed once per image.

    injector: the injector's shift (even channels) and raw scale (odd ones). coupling_term: of the coupling
    net's first convolution what the features contribute.
    """

    injector: Tensor
    coupling_term: Tensor


class LinearStep(nn.Module):
    """ActNorm and 1x1, which together are one affine map of each position: y = W s x + W s b."""

    def __init__(self, channels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.actnorm = ActNorm(channels)
        self.invconv = InvertibleConv1x1(channels, generator)
        self._cache = FoldCache()

    def linear(self, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """Encode; log-det per sample."""
        if self.actnorm.pending:
            self.actnorm.start_from(x_bchw)
        weight, bias, log_det = self._cache.get("linear", self._weights(), self._fold)
        return conv1x1(x_bchw, weight, bias), _times_positions(log_det, x_bchw)

    def linear_inverse(self, z_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """Decode; log-det per sample."""
        weight, bias, log_det = self._cache.get("inverse", self._weights(), self._fold_inverse)
        return conv1x1(z_bchw, weight, bias), _times_positions(log_det, z_bchw)

    def _weights(self) -> list[Tensor]:
        return [*self.actnorm.parameters(), *self.invconv.parameters(), *self.invconv.buffers()]

    def _fold(self) -> tuple[Tensor, Tensor, Tensor]:
        weight = self.invconv.matrix() * torch.exp(self.actnorm.logs).flatten()
        bias = weight @ self.actnorm.bias.flatten()
        return weight, bias, self.actnorm.logs.sum() + self.invconv.log_s.sum()

    def _fold_inverse(self) -> tuple[Tensor, Tensor, Tensor]:
        weight = torch.exp(-self.actnorm.logs).view(-1, 1) * self.invconv.inverse_matrix()
        log_det = -self.actnorm.logs.sum() - self.invconv.log_s.sum()
        return weight, -self.actnorm.bias.flatten(), log_det


class TransitionStep(LinearStep, Bijection):
    """ActNorm and 1x1 without a coupling, after a squeeze."""

    def forward(self, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(x_bchw)

    def inverse(self, z_bchw: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear_inverse(z_bchw)


class FlowStep(LinearStep):
    """ActNorm, 1x1, coupling, injector (DeFlow, CVPR 2021, section 3.3).

    Encoding divides: z2 <- z2 / s_A(z1, ft) - b_A(z1, ft), then z <- z / s_F(ft) - b_F(ft). Without
    conditioning (``condition_channels`` 0) the coupling sees z1 alone and there is no injector.
    """

    def __init__(
        self,
        channels: int,
        condition_channels: int,
        hidden_channels: int,
        scale_form: ScaleForm,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(channels, generator)
        self.scale_form = scale_form
        self.autocast_dtype: torch.dtype | None = None
        self.z1_channels = channels // 2
        z2_channels = channels - self.z1_channels
        self.coupling = CouplingNet(
            self.z1_channels, condition_channels, hidden_channels, 2 * z2_channels, generator
        )
        self.injector = (
            CouplingNet(0, condition_channels, hidden_channels, 2 * channels, generator)
            if condition_channels
            else None
        )

    def condition(self, features: LevelFeatures) -> StepCondition:
        """Everything of this step that depends on the features alone."""
        assert self.injector is not None
        with self._nets_precision(features.own):
            raw = self.injector(None, self.injector.condition_term(features))
            return StepCondition(raw, self.coupling.condition_term(features))

    def forward(self, x_bchw: Tensor, condition: StepCondition | None) -> tuple[Tensor, Tensor]:
        z, log_det = self.linear(x_bchw)
        z1, z2 = z[:, : self.z1_channels], z[:, self.z1_channels :]
        z2, part = dispatch.coupling_forward(z2, self._coupling_raw(z1, condition), self.scale_form)
        z, log_det = torch.cat((z1, z2), dim=1), log_det + part
        if condition is not None:
            z, part = dispatch.coupling_forward(z, condition.injector, self.scale_form)
            log_det = log_det + part
        return z, log_det

    def inverse(self, z_bchw: Tensor, condition: StepCondition | None) -> tuple[Tensor, Tensor]:
        z, log_det = z_bchw, z_bchw.new_zeros(z_bchw.shape[0])
        if condition is not None:
            z, log_det = dispatch.coupling_inverse(z, condition.injector, self.scale_form)
        z1, z2 = z[:, : self.z1_channels], z[:, self.z1_channels :]
        z2, part = dispatch.coupling_inverse(z2, self._coupling_raw(z1, condition), self.scale_form)
        x, linear_part = self.linear_inverse(torch.cat((z1, z2), dim=1))
        return x, log_det + part + linear_part

    def _nets_precision(self, tensor: Tensor) -> torch.autocast:
        """The nets may run in bfloat16; the flow itself, scales and log-dets stay as they are."""
        return torch.autocast(
            tensor.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None
        )

    def _coupling_raw(self, z1: Tensor, condition: StepCondition | None) -> Tensor:
        with self._nets_precision(z1):
            return self.coupling(z1, None if condition is None else condition.coupling_term)


def _times_positions(log_det: Tensor, x_bchw: Tensor) -> Tensor:
    """The log-det of a map of each position, per sample."""
    batch, _, height, width = x_bchw.shape
    return (log_det * (height * width)).expand(batch)
