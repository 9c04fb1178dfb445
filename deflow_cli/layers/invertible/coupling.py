"""Flow step: ActNorm, 1x1 convolution, conditional affine coupling and affine injector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from deflow_cli.kernels import dispatch
from deflow_cli.kernels.reference import ScaleForm
from deflow_cli.layers.invertible.actnorm import ActNorm
from deflow_cli.layers.invertible.base import Bijection, Condition, RunSettings, times_positions
from deflow_cli.layers.invertible.folding import FoldCache
from deflow_cli.layers.invertible.invconv import pointwise_matrix
from deflow_cli.layers.invertible.pointwise import conv1x1
from deflow_cli.layers.invertible.step_runs import StepNetworks, fold_linear
from deflow_cli.layers.invertible.variant import DEFLOW, FlowVariant
from deflow_cli.layers.networks.conditioned import CouplingNet
from deflow_cli.layers.networks.upsampled import LevelFeatures

AffineMap = Callable[[Tensor, Tensor, ScaleForm], tuple[Tensor, Tensor]]
"""(z, a network's output, how it becomes a scale) to (mapped z, log-det per sample)."""


class StepCondition(NamedTuple):
    """What one flow step needs of the conditioning image: independent of z, computed once per image.

    injector: the injector's shift (even channels) and raw scale (odd channels). coupling_term: what the
    features contribute to the output of the coupling network's first convolution.
    """

    injector: Tensor
    coupling_term: Tensor


class LinearStep(Bijection):
    """ActNorm and 1x1 convolution, which together are one affine map of each position: y = W s x + W s b."""

    def __init__(
        self, channels: int, generator: torch.Generator | None = None, variant: FlowVariant = DEFLOW
    ) -> None:
        super().__init__()
        self.actnorm = ActNorm(channels)
        self.invconv = pointwise_matrix(variant.pointwise, channels, generator)
        self._cache = FoldCache()

    def linear(self, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """Encode by the affine map; log-det per sample."""
        if self.actnorm.pending:
            self.actnorm.start_from(x_bchw)
        weight, bias, log_det = self._cache.get("linear", self._weights(), self.folded)
        return conv1x1(x_bchw, weight, bias), times_positions(log_det, x_bchw)

    def linear_inverse(self, z_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """Decode by the affine map; log-det per sample."""
        weight, bias, log_det = self._cache.get("inverse", self._weights(), self.folded_inverse)
        return conv1x1(z_bchw, weight, bias), times_positions(log_det, z_bchw)

    @classmethod
    def encode_run(
        cls,
        run: Sequence[Bijection],
        x_bchw: Tensor,
        features: LevelFeatures | None,
        settings: RunSettings,
    ) -> tuple[Tensor, Tensor]:
        """Fold the parameters of all steps at once, and so compute what depends on the features alone."""
        layers = cast("list[LinearStep]", list(run))
        steps = cast("list[FlowStep]", [layer for layer in layers if layer.has_networks])
        if features is None or not steps:
            return super().encode_run(run, x_bchw, features, settings)
        pointwise = [layer.invconv for layer in layers]
        linear, log_det = fold_linear(
            [layer.actnorm.bias for layer in layers],
            [layer.actnorm.logs for layer in layers],
            *type(pointwise[0]).matrices(pointwise),
        )
        networks = iter(steps[0].networks_of(steps, settings).encoders(features))
        z, log_dets = x_bchw, [times_positions(log_det, x_bchw)]
        for layer, affine in zip(layers, linear, strict=True):
            if layer.has_networks:
                z, *parts = next(networks)(z, affine)
                log_dets += parts
            else:
                z = conv1x1(z, *affine)
        return z, torch.stack(log_dets).sum(0)

    def _weights(self) -> list[Tensor]:
        return [*self.actnorm.parameters(), *self.invconv.parameters(), *self.invconv.buffers()]

    def folded(self) -> tuple[Tensor, Tensor, Tensor]:
        """Matrix (C x C) and shift (C) of the affine map, and the log-determinant at one position."""
        weight = self.invconv.matrix() * torch.exp(self.actnorm.logs).flatten()
        bias = weight @ self.actnorm.bias.flatten()
        return weight, bias, self.actnorm.logs.sum() + self.invconv.log_abs_det()

    def folded_inverse(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same of the affine map that decodes."""
        weight = torch.exp(-self.actnorm.logs).view(-1, 1) * self.invconv.inverse_matrix()
        log_det = -self.actnorm.logs.sum() - self.invconv.log_abs_det()
        return weight, -self.actnorm.bias.flatten(), log_det


class TransitionStep(LinearStep):
    """ActNorm and 1x1 convolution without a coupling, after a squeeze."""

    def forward(self, x_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return self.linear(x_bchw)

    def inverse(self, z_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return self.linear_inverse(z_bchw)


class FlowStep(LinearStep):
    """ActNorm, 1x1 convolution, coupling, injector (DeFlow, CVPR 2021, section 3.3).

    DeFlow's encoding divides: z2 <- z2 / s_A(z1, ft) - b_A(z1, ft), then z <- z / s_F(ft) - b_F(ft). In
    other variants it multiplies, z2 <- (z2 + b_A) s_A, or has the injector before the coupling. In an
    unconditional flow (``condition_channels`` 0) the coupling sees z1 alone and there is no injector.
    """

    has_networks = True

    def __init__(
        self,
        channels: int,
        condition_channels: int,
        hidden_channels: int,
        scale_form: ScaleForm,
        generator: torch.Generator | None = None,
        variant: FlowVariant = DEFLOW,
    ) -> None:
        super().__init__(channels, generator, variant)
        self.scale_form, self.coupling_form = scale_form, variant.coupling_form(scale_form)
        self.variant = variant
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

    def condition(self, features: LevelFeatures | None) -> StepCondition | None:
        """Everything of this step that depends on the features alone."""
        if features is None:
            return None
        assert self.injector is not None
        with self._networks_precision(features.own):
            raw = self.injector(None, self.injector.condition_term(features))
            return StepCondition(raw, self.coupling.condition_term(features))

    def forward(self, x_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        divides = self.variant.encoding == "divide"
        affine = dispatch.coupling_forward if divides else dispatch.coupling_inverse
        z, log_det = self.linear(x_bchw)
        for change in self._changes(condition):
            z, part = change(z, condition, affine)
            log_det = log_det + part
        return z, log_det

    def inverse(self, z_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        divides = self.variant.encoding == "divide"
        affine = dispatch.coupling_inverse if divides else dispatch.coupling_forward
        z, log_det = z_bchw, z_bchw.new_zeros(z_bchw.shape[0])
        for change in reversed(self._changes(condition)):
            z, part = change(z, condition, affine)
            log_det = log_det + part
        x, part = self.linear_inverse(z)
        return x, log_det + part

    def start(
        self,
        x_bchw: Tensor,
        features: LevelFeatures | None,
        *,
        whiten: bool,
        explain: bool,
        scale: bool = False,
    ) -> Tensor:
        """Encode the first batch while the step's parameters are initialised from it.

        whiten: the 1x1 convolution decorrelates its input, in a random rotation. explain: the injector
        subtracts from the step's output its regression on the injector's hidden features; with scale it also
        divides by the standard deviation that these explain. The coupling always starts at the identity.
        """
        if whiten:
            self.invconv.whiten(self.actnorm.scale(x_bchw))
        z = super().start(x_bchw, features, whiten=whiten, explain=explain)
        if explain and features is not None and self.injector is not None:
            z = self.injector.start_as_regression(features, z, self.scale_form if scale else None)
        return z

    def set_network_precision(self, dtype: torch.dtype | None) -> None:
        """The networks may run in bfloat16; the flow itself, scales and log-dets stay as they are."""
        self.autocast_dtype = dtype

    def networks_of(self, steps: Sequence[FlowStep], settings: RunSettings) -> StepNetworks:
        """The networks of steps that are like this one."""
        return StepNetworks(
            [step.coupling.layer_parameters() for step in steps],
            [step.injector.layer_parameters() for step in steps if step.injector is not None],
            self.z1_channels,
            self.scale_form,
            self.variant,
            self.autocast_dtype or self.coupling.weight_in.dtype,
            settings,
        )

    def _changes(
        self, condition: Condition | None
    ) -> list[Callable[[Tensor, Condition | None, AffineMap], tuple[Tensor, Tensor]]]:
        """The nonlinear parts of the step, in the order in which encoding applies them."""
        if condition is None:
            return [self._couple]
        if self.variant.injector == "after":
            return [self._couple, self._inject]
        return [self._inject, self._couple]

    def _couple(self, z: Tensor, condition: Condition | None, affine: AffineMap) -> tuple[Tensor, Tensor]:
        z1, z2 = z[:, : self.z1_channels], z[:, self.z1_channels :]
        with self._networks_precision(z1):
            raw = self.coupling(z1, None if condition is None else StepCondition(*condition).coupling_term)
        z2, log_det = affine(z2, raw, self.coupling_form)
        return torch.cat((z1, z2), dim=1), log_det

    def _inject(self, z: Tensor, condition: Condition | None, affine: AffineMap) -> tuple[Tensor, Tensor]:
        assert condition is not None
        return affine(z, StepCondition(*condition).injector, self.scale_form)

    def _networks_precision(self, tensor: Tensor) -> torch.autocast:
        return torch.autocast(
            tensor.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None
        )
