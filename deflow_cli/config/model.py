"""Model: what a DeFlow model is built from, as frozen dataclasses checked at birth, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from deflow_cli.config.checks import check_choices, require


@dataclass(frozen=True)
class EncoderConfig:
    """RRDB encoder of the conditioning image h(x), at h's resolution."""

    channels: int = 64
    growth_channels: int = 32
    blocks: int = 23
    stacked_blocks: tuple[int, ...] = (1, 8, 15, 22)

    def __post_init__(self) -> None:
        require(self.channels > 0 and self.growth_channels > 0, "encoder channels must be positive")
        require(self.blocks > 0, f"encoder.blocks is {self.blocks}; at least 1 is needed")
        require(len(self.stacked_blocks) > 0, "encoder.stacked_blocks names no block", "name at least one")
        bad = [b for b in self.stacked_blocks if not 0 <= b < self.blocks]
        require(
            not bad,
            f"encoder.stacked_blocks names block {bad[0] if bad else ''}, the encoder has {self.blocks}",
            "blocks are counted from 0",
        )

    @property
    def least_parameters(self) -> int:
        """Weights of the trunk's convolutions: fewer than the encoder has, and nearly all of them."""
        c, g = self.channels, self.growth_channels
        dense_block = 4 * c * g + 6 * g * g + (c + 4 * g) * c  # inputs times outputs of its five convolutions
        return 3 * self.blocks * 9 * dense_block

    @property
    def feature_channels(self) -> int:
        """Channels of ft: the pyramid level's own, then one group per stacked block."""
        return self.channels * (1 + len(self.stacked_blocks))


@dataclass(frozen=True)
class FlowConfig:
    """The conditional flow and its shared latent (DeFlow, CVPR 2021)."""

    levels: int = 3
    steps: int = 16
    transition_steps: int = 2
    hidden_channels: int = 64
    splits: Literal["published", "all", "none"] = "published"
    scale: Literal["published", "bounded"] = "published"  # sigmoid(a + 2) + eps | exp(c atan(a / c))
    scale_eps: float = 1e-3
    scale_bound: float = 1.0
    conditioning: Literal["encoder", "none"] = "encoder"
    condition_channels: int = 0  # 0: the nets see all encoder features; n: projected to n per level
    downsample: int = 4  # s: h(x) is x downsampled by s
    h_noise: float = 0.03  # std of the noise on h(x), [0, 1] scale
    shift: str = "correlated"  # correlated | diagonal | post-hoc | mixture:K
    gain: Literal["none", "contraction"] = "none"  # z_y = z_x + u | z_y = A z_x + u, A from the moments
    # noise of the samples: as u has it | matched to the noisy images by brightness and texture
    grain: Literal["none", "matched"] = "none"
    quantization_levels: int = 32  # training adds U(-0.5, 0.5) / this
    in_channels: int = 3

    def __post_init__(self) -> None:
        check_choices("flow", self)
        require(1 <= self.levels <= 5, f"flow.levels is {self.levels}; 1 to 5 are possible")
        require(self.steps >= 1, f"flow.steps is {self.steps}; at least 1 is needed")
        require(self.transition_steps >= 0, "flow.transition_steps must not be negative")
        require(self.hidden_channels >= 1, "flow.hidden_channels must be positive")
        require(self.scale_bound > 0, "flow.scale_bound must be positive")
        require(0 <= self.h_noise < 1, f"flow.h_noise is {self.h_noise}; it is a std on the [0, 1] scale")
        require(
            self.downsample in (2, 4, 8, 16), f"flow.downsample is {self.downsample}", "use 2, 4, 8 or 16"
        )
        require(self.quantization_levels >= 2, "flow.quantization_levels must be at least 2")
        _ = self.components

    @property
    def components(self) -> int:
        """Number of shift components K: 1 unless the shift is ``mixture:K``."""
        if self.shift in ("correlated", "diagonal", "post-hoc"):
            return 1
        kind, _, count = self.shift.partition(":")
        require(
            kind == "mixture" and count.isdigit() and int(count) >= 1,
            f"flow.shift is {self.shift!r}",
            "use correlated, diagonal, post-hoc or mixture:K, for instance mixture:4",
        )
        return int(count)

    @property
    def least_parameters(self) -> int:
        """Weights of the coupling networks' middle layers, the 1x1 convolutions and the shift.

        The squeezed image has 4 channels for each of its own, of which the shift has a mean per component.
        """
        squeezed = 4 * self.in_channels
        couplings = self.levels * self.steps * self.hidden_channels**2
        convolutions = self.levels * (self.steps + self.transition_steps) * squeezed**2
        return couplings + convolutions + squeezed * self.components

    @property
    def size_multiple(self) -> int:
        """Image sides are padded to a multiple of this, so that every level and h have whole cells."""
        return max(2**self.levels, self.downsample)


@dataclass(frozen=True)
class ModelConfig:
    """All that is needed to build a DeFlow model."""

    flow: FlowConfig = field(default_factory=FlowConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    @property
    def least_parameters(self) -> int:
        """Fewer numbers than a model of these sizes has, so that a file with fewer cannot hold one."""
        if self.flow.conditioning == "none":
            return self.flow.least_parameters
        return self.flow.least_parameters + self.encoder.least_parameters + self._readers

    @property
    def _readers(self) -> int:
        """Weights of what reads the encoder's features: the projection, or the coupling networks."""
        flow, features = self.flow, self.encoder.feature_channels
        if flow.condition_channels:
            return flow.condition_channels * features
        return flow.levels * flow.steps * flow.hidden_channels * features
