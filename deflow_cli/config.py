"""Configuration: frozen dataclasses, checked at birth, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import ConfigError


def _require(condition: bool, message: str, next_step: str = "") -> None:
    if not condition:
        raise ConfigError(message, next_step=next_step)


@dataclass(frozen=True)
class EncoderConfig:
    """RRDB encoder of the conditioning image h(x), at h's resolution."""

    channels: int = 64
    growth_channels: int = 32
    blocks: int = 23
    stacked_blocks: tuple[int, ...] = (1, 8, 15, 22)

    def __post_init__(self) -> None:
        _require(self.channels > 0 and self.growth_channels > 0, "encoder channels must be positive")
        _require(self.blocks > 0, f"encoder.blocks is {self.blocks}; at least 1 is needed")
        _require(len(self.stacked_blocks) > 0, "encoder.stacked_blocks names no block", "name at least one")
        bad = [b for b in self.stacked_blocks if not 0 <= b < self.blocks]
        _require(
            not bad,
            f"encoder.stacked_blocks names block {bad[0] if bad else ''}, the encoder has {self.blocks}",
            "blocks are counted from 0",
        )

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
    splits: str = "published"  # published | all | none
    scale: str = "published"  # published: sigmoid(a + 2) + eps | bounded: exp(c atan(a / c))
    scale_eps: float = 1e-3
    scale_bound: float = 1.0
    conditioning: str = "encoder"  # encoder | none
    condition_channels: int = 0  # 0: the nets see all encoder features; n: projected to n per level
    downsample: int = 4  # s: h(x) is x downsampled by s
    h_noise: float = 0.03  # std of the noise on h(x), [0, 1] scale
    shift: str = "correlated"  # correlated | diagonal | post-hoc | mixture:K
    gain: str = "none"  # none: z_y = z_x + u | contraction: z_y = A z_x + u, A from the moments
    quantization_levels: int = 32  # training adds U(-0.5, 0.5) / this
    in_channels: int = 3

    def __post_init__(self) -> None:
        _require(1 <= self.levels <= 5, f"flow.levels is {self.levels}; 1 to 5 are possible")
        _require(self.steps >= 1, f"flow.steps is {self.steps}; at least 1 is needed")
        _require(self.transition_steps >= 0, "flow.transition_steps must not be negative")
        _require(self.hidden_channels >= 1, "flow.hidden_channels must be positive")
        _require(
            self.splits in ("published", "all", "none"),
            f"flow.splits is {self.splits!r}",
            "use published, all or none",
        )
        _require(
            self.scale in ("published", "bounded"),
            f"flow.scale is {self.scale!r}",
            "use published or bounded",
        )
        _require(self.scale_bound > 0, "flow.scale_bound must be positive")
        _require(
            self.conditioning in ("encoder", "none"),
            f"flow.conditioning is {self.conditioning!r}",
            "use encoder or none",
        )
        _require(
            self.downsample in (2, 4, 8, 16),
            f"flow.downsample is {self.downsample}",
            "use 2, 4, 8 or 16",
        )
        _require(0 <= self.h_noise < 1, f"flow.h_noise is {self.h_noise}; it is a std on the [0, 1] scale")
        _require(
            self.gain in ("none", "contraction"), f"flow.gain is {self.gain!r}", "use none or contraction"
        )
        _require(self.quantization_levels >= 2, "flow.quantization_levels must be at least 2")
        _ = self.components

    @property
    def components(self) -> int:
        """Number of shift components K: 1 unless the shift is ``mixture:K``."""
        if self.shift in ("correlated", "diagonal", "post-hoc"):
            return 1
        kind, _, count = self.shift.partition(":")
        _require(
            kind == "mixture" and count.isdigit() and int(count) >= 1,
            f"flow.shift is {self.shift!r}",
            "use correlated, diagonal, post-hoc or mixture:K, for instance mixture:4",
        )
        return int(count)

    @property
    def size_multiple(self) -> int:
        """Image sides are padded to a multiple of this, so that every level and h have whole cells."""
        return max(2**self.levels, self.downsample)


@dataclass(frozen=True)
class FitConfig:
    """How a model is fitted: data, optimiser, schedule, records."""

    iterations: int = 100_000  # 0: chosen by the time budget
    time_budget: float = 0.0  # seconds; 0: by iterations
    batch_size: int = 8
    patch_size: int = 160
    learning_rate: float = 1e-4
    shift_learning_rate: float = 0.0  # of mu and M; 0: learning_rate
    coupling_rate: float = 1.0  # factor on the rate of the couplings' nets; 0: they stay at the identity
    schedule: str = "published"  # published: halved at 50, 75, 90, 95 % | cosine | constant
    warmup: float = 0.0  # share of the run with a rising rate
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip_gradients: float = 0.0  # global norm; 0: none
    ema: float = 0.0  # decay per step; 0: none
    start: str = "moments"  # moments | constant | zero (the published M = 0)
    shift_update: str = "gradient"  # gradient | moments: mu and M by the closed form again and again
    moments_every: int = 200  # steps between closed-form updates of the shift
    encoder_weights: str = ""  # an ESRGAN file that starts the encoder; empty: none
    whiten: bool = False  # start each level as what h does not explain of the images, whitened
    channel_statistics: str = "auto"  # auto | yes | no
    leak_test: bool = False  # choose flow.downsample and flow.h_noise by the domain-leak test
    precision: str = "auto"  # auto | fp32 | bf16 (inside the nets only)
    memory: str = "normal"  # normal | low: the nets are computed anew in the backward pass
    flips: bool = True
    pair_share: float = 0.25  # share of a batch drawn from --pairs
    cache_mib: int = 2048  # decoded images kept in memory at most
    held_out: float = 0.1  # share of images kept for validation
    log_every: int = 20
    validate_every: int = 500
    preview_every: int = 1000
    checkpoint_every: int = 500
    max_bad_steps: int = 20  # non-finite steps in a row before the last good state is restored
    tensorboard: bool = False  # also write TensorBoard events (needs deflow-cli[tensorboard])
    report: bool = True  # at the end, write report.html beside the model
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.iterations >= 0, "fit.iterations must not be negative")
        _require(self.time_budget >= 0, "fit.time_budget must not be negative")
        _require(
            self.iterations > 0 or self.time_budget > 0,
            "neither fit.iterations nor fit.time_budget is set",
            "pass --time-budget 10m or --set fit.iterations=1000",
        )
        _require(
            self.batch_size >= 2 and self.batch_size % 2 == 0,
            f"fit.batch_size is {self.batch_size}; both domains get half of it",
            "use an even number",
        )
        _require(self.patch_size >= 8, f"fit.patch_size is {self.patch_size}; at least 8 is needed")
        _require(self.learning_rate > 0, "fit.learning_rate must be positive")
        _require(self.coupling_rate >= 0, "fit.coupling_rate must not be negative")
        _require(
            self.schedule in ("published", "cosine", "constant"),
            f"fit.schedule is {self.schedule!r}",
            "use published, cosine or constant",
        )
        _require(0 <= self.warmup < 1, "fit.warmup is a share of the run, 0 to below 1")
        _require(0 <= self.ema < 1, "fit.ema is a decay, 0 to below 1")
        _require(
            self.start in ("moments", "constant", "zero"),
            f"fit.start is {self.start!r}",
            "use moments, constant or zero",
        )
        _require(
            self.shift_update in ("gradient", "moments"),
            f"fit.shift_update is {self.shift_update!r}",
            "use gradient or moments",
        )
        _require(
            self.precision in ("auto", "fp32", "bf16"),
            f"fit.precision is {self.precision!r}",
            "use auto, fp32 or bf16",
        )
        _require(self.memory in ("normal", "low"), f"fit.memory is {self.memory!r}", "use normal or low")
        _require(
            self.channel_statistics in ("auto", "yes", "no"),
            f"fit.channel_statistics is {self.channel_statistics!r}",
            "use auto, yes or no",
        )
        _require(0 <= self.held_out < 0.5, "fit.held_out is a share of the images, 0 to below 0.5")
        _require(0 <= self.pair_share <= 1, "fit.pair_share is a share of a batch, 0 to 1")
        _require(
            all(0 <= beta < 1 for beta in self.betas), f"fit.betas are {self.betas}; each is 0 to below 1"
        )
        for name in ("shift_learning_rate", "weight_decay", "clip_gradients", "cache_mib"):
            _require(getattr(self, name) >= 0, f"fit.{name} must not be negative")
        for name in (
            "moments_every",
            "log_every",
            "validate_every",
            "preview_every",
            "checkpoint_every",
            "max_bad_steps",
        ):
            _require(getattr(self, name) >= 1, f"fit.{name} must be at least 1")


@dataclass(frozen=True)
class RestorerConfig:
    """The ESRGAN generator RRDBNet, x1 to x16."""

    scale: int = 4
    channels: int = 64
    blocks: int = 23
    growth_channels: int = 32  # other readers than ours know 32 alone
    unshuffle: int = 0  # pixel-unshuffle of the input; 0: as Real-ESRGAN (x1: 4, x2: 2, else 1); 1: none
    image_channels: int = 3

    def __post_init__(self) -> None:
        _require(
            self.scale in (1, 2, 4, 8, 16),
            f"restorer.scale is {self.scale}; the network doubles the size again and again",
            "use 1, 2, 4, 8 or 16",
        )
        _require(
            self.unshuffle in (0, 1, 2, 4), f"restorer.unshuffle is {self.unshuffle}", "use 0, 1, 2 or 4"
        )
        for name in ("channels", "blocks", "growth_channels", "image_channels"):
            _require(
                getattr(self, name) >= 1, f"restorer.{name} is {getattr(self, name)}; at least 1 is needed"
            )

    @property
    def unshuffle_factor(self) -> int:
        """r: the input's r x r pixels become channels, so that the trunk works at 1 / r of its size."""
        return self.unshuffle or {1: 4, 2: 2}.get(self.scale, 1)

    @property
    def doublings(self) -> int:
        """Number of x2 upsampling stages."""
        return (self.scale * self.unshuffle_factor).bit_length() - 1


@dataclass(frozen=True)
class ModelConfig:
    """All that is needed to build a DeFlow model."""

    flow: FlowConfig = field(default_factory=FlowConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)


@dataclass(frozen=True)
class RunConfig:
    """A whole `deflow fit` run: the model and how it is fitted."""

    flow: FlowConfig = field(default_factory=FlowConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    @property
    def model(self) -> ModelConfig:
        return ModelConfig(self.flow, self.encoder)
