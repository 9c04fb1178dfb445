"""Flow step: ActNorm, 1x1 convolution, conditional affine coupling and affine injector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from deflow_cli.kernels import dispatch
from deflow_cli.kernels.reference import ScaleForm
from deflow_cli.layers.invertible.actnorm import ActNorm
from deflow_cli.layers.invertible.base import Bijection, StepCondition
from deflow_cli.layers.invertible.folding import FoldCache
from deflow_cli.layers.invertible.invconv import DenseConv1x1, InvertibleConv1x1, Pointwise
from deflow_cli.layers.invertible.pointwise import conv1x1
from deflow_cli.layers.invertible.split import PUBLISHED_EPS
from deflow_cli.layers.networks.conditioned import CouplingNet
from deflow_cli.layers.networks.upsampled import LevelFeatures

CouplingOperation = Callable[[Tensor, Tensor, ScaleForm], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class FlowForm:
    """In what the flows of DeFlow and of SRFlow differ, layer by layer; the defaults are DeFlow's.

    scale: how a network's output becomes a scale. direction: what encoding does in the affine layers,
    ``inverted`` z / s - b (DeFlow) or ``direct`` (z + b) s (SRFlow); decoding does the other. injector: its
    place beside the coupling when encoding, ``last`` (DeFlow) or ``first`` (SRFlow). pointwise: the 1x1
    convolution, in ``lu`` form (DeFlow) or with a ``dense`` matrix (SRFlow). split_eps: see ``Split``;
    SRFlow's is 0.
    """

    scale: ScaleForm = field(default_factory=ScaleForm)
    direction: Literal["inverted", "direct"] = "inverted"
    injector: Literal["last", "first"] = "last"
    pointwise: Literal["lu", "dense"] = "lu"
    split_eps: float = PUBLISHED_EPS

    def new_pointwise(self, channels: int, generator: torch.Generator | None) -> Pointwise:
        """A 1x1 convolution at a random rotation."""
        kind = InvertibleConv1x1 if self.pointwise == "lu" else DenseConv1x1
        return kind(channels, generator)

    @property
    def operations(self) -> tuple[CouplingOperation, CouplingOperation]:
        """What encoding and decoding compute of (z, raw, scale): the same two operations, in either order."""
        if self.direction == "inverted":
            return dispatch.coupling_forward, dispatch.coupling_inverse
        return dispatch.coupling_inverse, dispatch.coupling_forward


class TransitionStep(Bijection):
    """ActNorm and 1x1 convolution, as after a squeeze: one affine map per position, y = W s x + W s b."""

    def __init__(
        self, channels: int, generator: torch.Generator | None = None, form: FlowForm | None = None
    ) -> None:
        super().__init__()
        self.actnorm = ActNorm(channels)
        self.invconv = (form or FlowForm()).new_pointwise(channels, generator)
        self._cache = FoldCache()

    def forward(self, x_bchw: Tensor, condition: StepCondition | None = None) -> tuple[Tensor, Tensor]:
        if self.actnorm.pending:
            self.actnorm.start_from(x_bchw)
        weight, bias, log_det = self._cache.get("linear", self._weights(), self._fold)
        return conv1x1(x_bchw, weight, bias), _times_positions(log_det, x_bchw)

    def inverse(self, z_bchw: Tensor, condition: StepCondition | None = None) -> tuple[Tensor, Tensor]:
        weight, bias, log_det = self._cache.get("inverse", self._weights(), self._fold_inverse)
        return conv1x1(z_bchw, weight, bias), _times_positions(log_det, z_bchw)

    def _weights(self) -> list[Tensor]:
        return [*self.actnorm.parameters(), *self.invconv.parameters(), *self.invconv.buffers()]

    def _fold(self) -> tuple[Tensor, Tensor, Tensor]:
        weight = self.invconv.matrix() * torch.exp(self.actnorm.logs).flatten()
        bias = weight @ self.actnorm.bias.flatten()
        return weight, bias, self.actnorm.logs.sum() + self.invconv.log_abs_det()

    def _fold_inverse(self) -> tuple[Tensor, Tensor, Tensor]:
        weight = torch.exp(-self.actnorm.logs).view(-1, 1) * self.invconv.inverse_matrix()
        log_det = -self.actnorm.logs.sum() - self.invconv.log_abs_det()
        return weight, -self.actnorm.bias.flatten(), log_det


class FlowStep(TransitionStep):
    """ActNorm, 1x1 convolution, coupling, injector (DeFlow, CVPR 2021, section 3.3).

    DeFlow's encoding divides: z2 <- z2 / s_A(z1, ft) - b_A(z1, ft), then z <- z / s_F(ft) - b_F(ft). ``form``
    has SRFlow's variants. Without features (``condition_channels`` 0) the coupling sees z1 alone and there
    is no injector.
    """

    has_networks: ClassVar[bool] = True

    def __init__(
        self,
        channels: int,
        condition_channels: int,
        hidden_channels: int,
        form: FlowForm | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        form = form or FlowForm()
        super().__init__(channels, generator, form)
        self.form = form
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
        """The injector's output, and the features' share of the coupling network's first convolution."""
        assert self.injector is not None
        with self._network_precision(features.own):
            raw = self.injector(None, self.injector.condition_term(features))
            return StepCondition(raw, self.coupling.condition_term(features))

    def forward(self, x_bchw: Tensor, condition: StepCondition | None = None) -> tuple[Tensor, Tensor]:
        operation, _ = self.form.operations
        z, log_det = super().forward(x_bchw)
        parts = [self._couple, self._inject] if self.form.injector == "last" else [self._inject, self._couple]
        for part in parts:
            z, part_log_det = part(z, condition, operation)
            log_det = log_det if part_log_det is None else log_det + part_log_det
        return z, log_det

    def inverse(self, z_bchw: Tensor, condition: StepCondition | None = None) -> tuple[Tensor, Tensor]:
        _, operation = self.form.operations
        z, log_det = z_bchw, z_bchw.new_zeros(z_bchw.shape[0])
        parts = [self._inject, self._couple] if self.form.injector == "last" else [self._couple, self._inject]
        for part in parts:
            z, part_log_det = part(z, condition, operation)
            log_det = log_det if part_log_det is None else log_det + part_log_det
        x, linear_log_det = super().inverse(z)
        return x, log_det + linear_log_det

    def _couple(
        self, z: Tensor, condition: StepCondition | None, operation: CouplingOperation
    ) -> tuple[Tensor, Tensor]:
        """z2 through an affine map whose scale and shift come from z1 and the features."""
        z1, z2 = z[:, : self.z1_channels], z[:, self.z1_channels :]
        with self._network_precision(z1):
            raw = self.coupling(z1, None if condition is None else condition.coupling_term)
        z2, log_det = operation(z2, raw, self.form.scale)
        return torch.cat((z1, z2), dim=1), log_det

    def _inject(
        self, z: Tensor, condition: StepCondition | None, operation: CouplingOperation
    ) -> tuple[Tensor, Tensor | None]:
        """z through an affine map whose scale and shift come from the features alone."""
        return (z, None) if condition is None else operation(z, condition.injector, self.form.scale)

    def _network_precision(self, tensor: Tensor) -> torch.autocast:
        """The networks may run in bfloat16; the flow itself, scales and log-dets stay in float32."""
        return torch.autocast(
            tensor.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None
        )


def _times_positions(log_det: Tensor, x_bchw: Tensor) -> Tensor:
    """The log-det of a map that acts on each position alike, per sample."""
    batch, _, height, width = x_bchw.shape
    return (log_det * (height * width)).expand(batch)
