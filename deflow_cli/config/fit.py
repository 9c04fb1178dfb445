"""Fit: a whole `deflow fit` run, as frozen dataclasses checked at birth, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from deflow_cli.config.checks import Precision, check_choices, check_least, check_upkeep, require
from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig

TRAINING_SHARE_BEFORE_GRAIN = 0.7


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
    # published: halved at 50, 75, 90 and 95 % of the run
    schedule: Literal["published", "cosine", "constant"] = "published"
    warmup: float = 0.0  # share of the run with a rising rate
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip_gradients: float = 0.0  # global norm; 0: none
    ema: float = 0.0  # decay per step; 0: none
    start: Literal["moments", "constant", "zero"] = "moments"  # zero: the published M = 0
    shift_update: Literal["gradient", "moments"] = "gradient"  # moments: the closed form again and again
    moments_every: int = 200  # steps between closed-form updates of the shift
    encoder_weights: str = ""  # an ESRGAN file that starts the encoder; empty: none
    whiten: bool = False  # start each level as what h does not explain of the images, whitened
    # auto: contrast, offset and saturation, where the folders differ | yes: the published means and stds
    channel_statistics: Literal["auto", "yes", "no"] = "auto"
    compression: Literal["auto", "no"] = "auto"  # auto: samples are JPEG compressed where the noisy set is
    leak_test: bool = False  # choose flow.downsample and flow.h_noise by the domain-leak test
    precision: Precision = "auto"  # inside the nets only
    memory: Literal["normal", "low"] = "normal"  # low: the networks are recomputed in the backward pass
    compile: Literal["auto", "yes", "no"] = "auto"  # torch.compile of the steps; auto: long runs on a GPU
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
        check_choices("fit", self)
        require(self.iterations >= 0, "fit.iterations must not be negative")
        require(self.time_budget >= 0, "fit.time_budget must not be negative")
        require(
            self.iterations > 0 or self.time_budget > 0,
            "neither fit.iterations nor fit.time_budget is set",
            "pass --time-budget 10m or --set fit.iterations=1000",
        )
        require(
            self.batch_size >= 2 and self.batch_size % 2 == 0,
            f"fit.batch_size is {self.batch_size}; both domains get half of it",
            "use an even number",
        )
        require(self.patch_size >= 8, f"fit.patch_size is {self.patch_size}; at least 8 is needed")
        require(self.learning_rate > 0, "fit.learning_rate must be positive")
        require(self.coupling_rate >= 0, "fit.coupling_rate must not be negative")
        require(0 <= self.warmup < 1, "fit.warmup is a share of the run, 0 to below 1")
        check_upkeep("fit", self, "images")
        require(0 <= self.pair_share <= 1, "fit.pair_share is a share of a batch, 0 to 1")
        require(
            all(0 <= beta < 1 for beta in self.betas), f"fit.betas are {self.betas}; each is 0 to below 1"
        )
        at_least_0 = ("shift_learning_rate", "weight_decay", "clip_gradients", "cache_mib", "seed")
        check_least("fit", self, at_least_0, 0)
        check_least("fit", self, ["moments_every"], 1)


@dataclass(frozen=True)
class RunConfig:
    """A whole `deflow fit` run: the model and how it is fitted."""

    flow: FlowConfig = field(default_factory=FlowConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    @property
    def training_time(self) -> float:
        """Seconds of the time budget that are for training; matching the noise afterwards takes the rest."""
        return self.fit.time_budget * (TRAINING_SHARE_BEFORE_GRAIN if self.flow.grain == "matched" else 1.0)

    @property
    def model(self) -> ModelConfig:
        return ModelConfig(self.flow, self.encoder)
