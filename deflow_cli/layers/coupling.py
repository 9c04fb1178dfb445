"""Flow step: ActNorm, 1x1, conditional affine coupling and affine injector, in DeFlow's inverted form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..kernels import reference
from .actnorm import ActNorm
from .base import Bijection
from .invconv import InvertibleConv1x1
from .nets import CouplingNet


@dataclass(frozen=True)
class ScaleForm:
    """How a net's output becomes a positive scale. kind: published | bounded."""

    kind: str = "published"
    eps: float = 1e-3
    bound: float = 1.0

    def __call__(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (scale, log scale)."""
        if self.kind == "published":
            return reference.published_scale(raw, self.eps)
        return reference.bounded_scale(raw, self.bound)


class Affine(NamedTuple):
    """Scale, its logarithm and shift of one affine map, each B C H W."""

    scale: Tensor
    log_scale: Tensor
    shift: Tensor


class StepCondition(NamedTuple):
    """What one flow step needs of the conditioning image: independent of z, computed once per image."""

    injector: Affine
    coupling_term: Tensor


def affine_of(raw: Tensor, form: ScaleForm) -> Affine:
    """Even channels are the shift, odd ones the raw scale."""
    if raw.dtype == torch.bfloat16:
        raw = raw.float()
    scale, log_scale = form(raw[:, 1::2])
    return Affine(scale, log_scale, raw[:, 0::2])


class TransitionStep(Bijection):
    """ActNorm and 1x1 without a coupling, after a squeeze."""

    def __init__(self, channels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.actnorm = ActNorm(channels)
        self.invconv = InvertibleConv1x1(channels, generator)

    def forward(self, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det_norm = self.actnorm(x_bchw)
        y, log_det_conv = self.invconv(y)
        return y, log_det_norm + log_det_conv

    def inverse(self, z_bchw: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det_conv = self.invconv.inverse(z_bchw)
        x, log_det_norm = self.actnorm.inverse(x)
        return x, log_det_norm + log_det_conv


class FlowStep(nn.Module):
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
        super().__init__()
        self.scale_form = scale_form
        self.autocast_dtype: torch.dtype | None = None
        self.z1_channels = channels // 2
        self.actnorm = ActNorm(channels)
        self.invconv = InvertibleConv1x1(channels, generator)
        z2_channels = channels - self.z1_channels
        self.coupling = CouplingNet(
            self.z1_channels, condition_channels, hidden_channels, 2 * z2_channels, generator
        )
        self.injector = (
            CouplingNet(0, condition_channels, hidden_channels, 2 * channels, generator)
            if condition_channels
            else None
        )

    def condition(self, features_bchw: Tensor) -> StepCondition:
        """Everything of this step that depends on the features alone."""
        assert self.injector is not None
        with self._nets_precision(features_bchw):
            raw = self.injector(None, self.injector.condition_term(features_bchw))
            term = self.coupling.condition_term(features_bchw)
        return StepCondition(affine_of(raw, self.scale_form), term)

    def _nets_precision(self, tensor: Tensor) -> torch.autocast:
        """The nets may run in bfloat16; the flow itself, scales and log-dets stay as they are."""
        return torch.autocast(
            tensor.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None
        )

    def _coupling_affine(self, z1: Tensor, condition: StepCondition | None) -> Affine:
        term = None if condition is None else condition.coupling_term
        with self._nets_precision(z1):
            raw = self.coupling(z1, term)
        return affine_of(raw, self.scale_form)

    def forward(self, x_bchw: Tensor, condition: StepCondition | None) -> tuple[Tensor, Tensor]:
        z, log_det = self.actnorm(x_bchw)
        z, part = self.invconv(z)
        log_det = log_det + part
        z1, z2 = z[:, : self.z1_channels], z[:, self.z1_channels :]
        z2, part = reference.affine_forward(z2, *self._coupling_affine(z1, condition))
        log_det = log_det + part
        z = torch.cat((z1, z2), dim=1)
        if condition is not None:
            z, part = reference.affine_forward(z, *condition.injector)
            log_det = log_det + part
        return z, log_det

    def inverse(self, z_bchw: Tensor, condition: StepCondition | None) -> tuple[Tensor, Tensor]:
        z, log_det = z_bchw, z_bchw.new_zeros(z_bchw.shape[0])
        if condition is not None:
            z, log_det = reference.affine_inverse(z, *condition.injector)
        z1, z2 = z[:, : self.z1_channels], z[:, self.z1_channels :]
        z2, part = reference.affine_inverse(z2, *self._coupling_affine(z1, condition))
        log_det = log_det + part
        x, part = self.invconv.inverse(torch.cat((z1, z2), dim=1))
        log_det = log_det + part
        x, part = self.actnorm.inverse(x)
        return x, log_det + part
