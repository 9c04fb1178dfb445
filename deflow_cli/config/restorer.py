"""Restorer: its network and how it is trained, as frozen dataclasses checked at birth, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from deflow_cli.config.checks import Precision, check_choices, check_least, check_upkeep, require

# Sizes of the generator by name: features, RRDB blocks and growth inside a dense block.
RESTORER_SIZES = {"rrdb": (64, 23, 32), "rrdb-small": (64, 6, 32), "rrdb-tiny": (32, 1, 32)}
StageSchedule = Literal["steps", "cosine", "constant"]
DiscriminatorName = Literal["vgg", "patch", "unet"]


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
        require(
            self.scale in (1, 2, 4, 8, 16),
            f"restorer.scale is {self.scale}; the network doubles the size again and again",
            "use 1, 2, 4, 8 or 16",
        )
        require(self.unshuffle in (0, 1, 2, 4), f"restorer.unshuffle is {self.unshuffle}", "use 0, 1, 2 or 4")
        for name in ("channels", "blocks", "growth_channels", "image_channels"):
            require(
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
class StageConfig:
    """Length and optimiser of one stage. Adam; the same rate for the discriminator, where there is one."""

    iterations: int
    learning_rate: float
    betas: tuple[float, float]
    schedule: StageSchedule  # steps: halved at those of halve_at; cosine: to 1 / 1000 over the stage
    halve_at: tuple[int, ...]  # iterations of the stage, from 1: the one named already has half the rate

    section = "stage"

    def __post_init__(self) -> None:
        name = self.section
        check_choices(name, self)
        require(self.iterations >= 0, f"{name}.iterations must not be negative")
        require(self.learning_rate > 0, f"{name}.learning_rate must be positive")
        require(all(0 <= beta < 1 for beta in self.betas), f"{name}.betas are {self.betas}; each is below 1")
        require(all(step >= 1 for step in self.halve_at), f"{name}.halve_at are iterations, from 1")


@dataclass(frozen=True)
class PsnrStage(StageConfig):
    """The first stage: L1 alone. By default one period of BasicSR's RRDB-PSNR recipe."""

    iterations: int = 250_000
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.99)
    schedule: StageSchedule = "cosine"
    halve_at: tuple[int, ...] = ()

    section = "psnr"


@dataclass(frozen=True)
class GanStage(StageConfig):
    """The second stage: L1, features and GAN. By default as DeFlow and RealSR."""

    iterations: int = 60_000
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: StageSchedule = "steps"
    halve_at: tuple[int, ...] = (5_000, 10_000, 20_000, 30_000)

    section = "gan"


@dataclass(frozen=True)
class LossConfig:
    """The GAN stage's loss and its networks (ESRGAN, ECCVW 2018)."""

    pixel: float = 1e-2
    perceptual: float = 1.0
    adversarial: float = 5e-3
    features: Literal["vgg19", "none"] = "vgg19"  # conv5_4 before its activation | no perceptual loss
    features_file: str = ""  # VGG19's weights; empty: those on this machine
    discriminator: DiscriminatorName = "vgg"
    discriminator_channels: int = 64

    def __post_init__(self) -> None:
        check_choices("loss", self)
        for name in ("pixel", "perceptual", "adversarial"):
            require(getattr(self, name) >= 0, f"loss.{name} is a weight and must not be negative")
        require(self.discriminator_channels >= 1, "loss.discriminator_channels must be at least 1")
        weight = self.pixel + self.adversarial + (self.perceptual if self.features != "none" else 0)
        require(weight > 0, "all weights of the loss are zero", "set loss.pixel above zero")


@dataclass(frozen=True)
class TrainingConfig:
    """What trainings of restorers of every kind share: their data, averages and records."""

    time_budget: float = 0.0  # seconds, in place of the stages' iterations; 0: by iterations
    batch_size: int = 16
    gt_size: int = 128
    flips: bool = True
    crop_uses: int = 4  # of each crop of --hr, degraded by deflow anew each time
    crop_pool_mib: int = 512  # MiB on the device for the encodings of crops that are used again
    clip_gradients: float = 0.0
    ema: float = 0.0
    precision: Precision = "auto"
    compile: Literal["yes", "no"] = "no"  # torch.compile of the trunk, and of an SRFlow's steps
    lpips_file: str = ""  # AlexNet's weights; empty: those on this machine
    held_out: float = 0.1  # share of the pairs, where there is no --val
    validate_pairs: int = 16  # held-out pairs that are looked at; 0: all
    validate_side: int = 512  # px of gt, cut from the middle; 0: whole images
    cache_mib: int = 2048
    log_every: int = 20
    validate_every: int = 5_000
    preview_every: int = 5_000
    checkpoint_every: int = 1_000
    max_bad_steps: int = 20
    tensorboard: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_choices("sr", self)
        check_upkeep("sr", self, "pairs")
        require(self.gt_size >= 8, f"sr.gt_size is {self.gt_size}; at least 8 is needed")
        at_least_0 = ["time_budget", "clip_gradients", "validate_pairs", "validate_side"]
        at_least_0 += ["cache_mib", "crop_pool_mib", "seed"]
        check_least("sr", self, at_least_0, 0)
        check_least("sr", self, ("batch_size", "crop_uses"), 1)


@dataclass(frozen=True)
class SrFitConfig(TrainingConfig):
    """How an ESRGAN is trained, in both stages, and how the best is chosen."""

    stage: Literal["auto", "psnr", "gan", "both"] = "auto"  # auto: gan where --init gives a start, else both
    psnr_share: float = 0.5  # of a time budget, for the first of two stages
    start: Literal["published", "identity", "bicubic"] = "published"  # how the generator begins
    # auto: lpips where its weights are on this machine, else psnr
    select: Literal["auto", "lpips", "psnr", "ssim", "niqe"] = "auto"
    psnr_drop: float = 3.0  # dB below the stage's best that are reported as a collapse
    keep_at: tuple[int, ...] = ()  # steps of the run whose weights are kept, each in a file

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.psnr_share < 1, "sr.psnr_share is a share of the time, between 0 and 1")
        require(self.psnr_drop > 0, "sr.psnr_drop is in dB, above 0")
        require(all(step >= 1 for step in self.keep_at), "sr.keep_at are steps, from 1")


@dataclass(frozen=True)
class SrConfig:
    """A whole `deflow sr-train` run: the generator, the losses, both stages and how they are trained."""

    restorer: RestorerConfig = field(default_factory=RestorerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    psnr: PsnrStage = field(default_factory=PsnrStage)
    gan: GanStage = field(default_factory=GanStage)
    sr: SrFitConfig = field(default_factory=SrFitConfig)

    def __post_init__(self) -> None:
        for name in self.stages or ("psnr", "gan"):
            steps = getattr(self, name).iterations
            require(
                steps > 0 or self.sr.time_budget > 0,
                f"neither {name}.iterations nor sr.time_budget is set",
                f"pass --time-budget 10m or --iterations 1000, or --set {name}.iterations=1000",
            )
            require(
                steps == 0 or self.sr.time_budget == 0,
                f"both {name}.iterations ({steps}) and sr.time_budget ({self.sr.time_budget:g}) are set",
                f"pass --iterations {steps or 1000} or --time-budget 10m, or set the other to 0",
            )
        require(
            self.sr.batch_size >= 2 or "gan" not in self.stages,
            "sr.batch_size is 1; the GAN compares the images of a batch",
            "use at least 2, or --stage psnr",
        )

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of the run, in order; none while that is left open."""
        return {"auto": (), "both": ("psnr", "gan")}.get(self.sr.stage, (self.sr.stage,))
