"""SRFlow: its model and how it is trained, as frozen dataclasses checked at birth, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from deflow_cli.config.checks import check_choices, require
from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.config.restorer import StageConfig, StageSchedule, TrainingConfig
from deflow_cli.errors import DeflowError

USUAL_TEMPERATURE = 0.8  # of samples: the published choice between mild and overly bold ones


@dataclass(frozen=True)
class SRFlowConfig:
    """The flow of SRFlow (ECCV 2020), from an image y to latents given the small image x.

    The defaults are those of the published x4 model, but for its training, which adds no noise to y.
    """

    scale: int = 4
    levels: int = 3
    steps: int = 16
    transition_steps: int = 2
    hidden_channels: int = 64
    splits: Literal["published", "all", "none"] = "published"
    # direct: encoding multiplies by the scales, as published | inverted: it divides, so that decoding cannot
    # explode where a scale is small
    form: Literal["direct", "inverted"] = "direct"
    pointwise: Literal["dense", "lu"] = "dense"
    affine: Literal["published", "bounded"] = "published"  # sigmoid(a + 2) + eps | exp(c atan(a / c))
    affine_eps: float = 1e-4
    affine_bound: float = 1.0
    # c of the couplings' bounded scales; 0: affine_bound. A small one lets x alone set how strong detail is,
    # so that samples below temperature 1 do not lose it
    coupling_bound: float = 0.0
    contrast: bool = False  # whether the encoder sees the local contrast of x beside x
    condition_channels: int = 0  # 0: the networks see all encoder features; n: projected to n per level
    # what the flow models: y | y less x enlarged bicubically | y less an enlarged x that shrinks to x
    residual: Literal["none", "bicubic", "consistent"] = "none"
    # added to y in training: uniform of 1 / noise_levels | gaussian of noise_std | strength: uniform of
    # 1 / 256 and gaussian of up to noise_std, drawn per image, which the flow is told | nothing
    noise: Literal["uniform", "gaussian", "strength", "none"] = "uniform"
    noise_levels: int = 32
    noise_std: float = 2.309  # grey levels
    image_channels: int = 3

    def __post_init__(self) -> None:
        check_choices("srflow", self)
        require(self.scale in (2, 4, 8), f"srflow.scale is {self.scale}", "use 2, 4 or 8")
        require(
            2**self.levels >= self.scale,
            f"srflow.levels is {self.levels}, fewer than the {self.scale.bit_length() - 1} doublings",
            "use more levels",
        )
        require(
            self.coupling_bound >= 0 and (self.coupling_bound == 0 or self.affine == "bounded"),
            f"srflow.coupling_bound is {self.coupling_bound:g} with srflow.affine={self.affine}",
            "use 0, or srflow.affine=bounded",
        )
        require(self.noise_levels >= 2, "srflow.noise_levels must be at least 2")
        require(self.noise_std >= 0, "srflow.noise_std is in grey levels, and must not be negative")
        require(self.image_channels >= 1, "srflow.image_channels must be at least 1")
        _ = self.flow

    @property
    def flow(self) -> FlowConfig:
        """The same as the configuration of a conditional flow."""
        return FlowConfig(
            levels=self.levels,
            steps=self.steps,
            transition_steps=self.transition_steps,
            hidden_channels=self.hidden_channels,
            splits=self.splits,
            scale=self.affine,
            scale_eps=self.affine_eps,
            scale_bound=self.affine_bound,
            condition_channels=self.condition_channels,
            downsample=self.scale,
            quantization_levels=self.noise_levels,
            in_channels=self.image_channels,
        )

    @property
    def is_told_strength(self) -> bool:
        """Whether the strength of the noise on y is an input of the flow (SoftFlow, NeurIPS 2020)."""
        return self.noise == "strength"


@dataclass(frozen=True)
class SRFlowModelConfig:
    """All that is needed to build an SRFlow model."""

    srflow: SRFlowConfig = field(default_factory=SRFlowConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    @property
    def scale(self) -> int:
        return self.srflow.scale

    @property
    def least_parameters(self) -> int:
        """Fewer numbers than a model of these sizes has, so that a file with fewer cannot hold one."""
        return ModelConfig(self.flow, self.encoder).least_parameters

    @property
    def flow(self) -> FlowConfig:
        """The flow's configuration, as the shared layers take it."""
        return self.srflow.flow


@dataclass(frozen=True)
class PretrainStage(StageConfig):
    """The first stage: the encoder alone, as a restorer by L1. By default a period of the authors' recipe."""

    iterations: int = 50_000
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.99)
    schedule: StageSchedule = "cosine"
    halve_at: tuple[int, ...] = ()

    section = "pretrain"


@dataclass(frozen=True)
class FlowStage(StageConfig):
    """The second stage: the likelihood of y given x. By default as published for x4.

    l1: weight of the mean absolute difference of y and the sample at temperature 0. texture: weight of the
    difference in local strength of detail between half the difference of two samples at ``sr.temperature``,
    of opposite latents, and what the sample at temperature 0 lacks of y. consistency: weight of the squared
    difference, in grey levels, of y and samples made small. Samples are drawn for every fourth image.
    """

    iterations: int = 200_000
    learning_rate: float = 2.5e-4
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: StageSchedule = "steps"
    halve_at: tuple[int, ...] = (100_000, 150_000, 180_000, 190_000)
    l1: float = 0.0
    texture: float = 0.0
    consistency: float = 0.0

    section = "flow"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("l1", "texture", "consistency"):
            require(getattr(self, name) >= 0, f"flow.{name} is a weight and must not be negative")


@dataclass(frozen=True)
class SRFlowFitConfig(TrainingConfig):
    """How an SRFlow is trained: data, the encoder's part, choice of the best, records."""

    pretrain_share: float = 0.25  # of a time budget, for the first stage; 0: no first stage
    # share of the flow's stage in which the encoder rests: 0.5 as the paper says, 0 as its authors' code does
    encoder_freeze: float = 0.5
    start: Literal["published", "regression"] = "published"  # ActNorms from data | also linear parts
    memory: Literal["normal", "low"] = "normal"
    # auto: lpips where its weights are on this machine, else bits (held-out bits per dimension)
    select: Literal["auto", "lpips", "bits", "psnr"] = "auto"
    temperature: float = 0.8  # of the samples that are validated

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.pretrain_share < 1, "sr.pretrain_share is a share of the time, 0 to below 1")
        require(0 <= self.encoder_freeze <= 1, "sr.encoder_freeze is a share of the stage, 0 to 1")
        require(0 <= self.temperature <= 2, f"sr.temperature is {self.temperature:g}", "use 0 to 2")


@dataclass(frozen=True)
class SRFlowRunConfig:
    """A whole `deflow sr-train --arch srflow` run."""

    srflow: SRFlowConfig = field(default_factory=SRFlowConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    pretrain: PretrainStage = field(default_factory=PretrainStage)
    flow: FlowStage = field(default_factory=FlowStage)
    sr: SRFlowFitConfig = field(default_factory=SRFlowFitConfig)

    def __post_init__(self) -> None:
        require(
            self.flow.iterations > 0 or self.sr.time_budget > 0,
            "neither flow.iterations nor sr.time_budget is set",
            "pass --time-budget 10m or --iterations 1000, or --set flow.iterations=1000",
        )
        for name in ("pretrain", "flow"):
            steps = getattr(self, name).iterations
            require(
                steps == 0 or self.sr.time_budget == 0,
                f"both {name}.iterations ({steps}) and sr.time_budget ({self.sr.time_budget:g}) are set",
                f"pass --iterations {steps or 1000} or --time-budget 10m, or set the other to 0",
            )
        require(
            self.sr.start == "published" or self.srflow.form == "inverted",
            "sr.start=regression needs srflow.form=inverted",
            "use sr.start=published with the direct form",
        )

    @property
    def model(self) -> SRFlowModelConfig:
        return SRFlowModelConfig(self.srflow, self.encoder)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of the run, in order."""
        pretrains = self.pretrain.iterations > 0 or (self.sr.time_budget > 0 and self.sr.pretrain_share > 0)
        return ("pretrain", "flow") if pretrains else ("flow",)


def check_temperature(temperature: float) -> None:
    """Raise DeflowError for a temperature that no sample is drawn at."""
    if not 0 <= temperature <= 2:
        raise DeflowError(
            f"temperature {temperature:g}", next_step="use 0 to 2; 0.8 is usual, 0 the mild one"
        )
