"""Translation: the networks of the baselines that degrade, their sizes, and how they are trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from deflow_cli.config.checks import check_choices, check_least, check_upkeep, require

LEAST_PERCEPTUAL_SIDE = 31  # px; AlexNet's last layers are empty below


# -- the networks that a model file holds -------------------------------------------------------------------


@dataclass(frozen=True)
class ResidualGeneratorConfig:
    """The generator of DSGAN (scale 1) and DASR (2, 4 or 8: it makes the picture smaller itself)."""

    channels: int = 64
    blocks: int = 8
    scale: int = 1

    def __post_init__(self) -> None:
        require(self.channels >= 1, f"generator of {self.channels} channels")
        require(self.blocks >= 0, f"generator of {self.blocks} blocks")
        require(self.scale in (1, 2, 4, 8), f"generator of scale {self.scale}", "use 1, 2, 4 or 8")


@dataclass(frozen=True)
class CycleGeneratorConfig:
    """CycleGAN's ResNet generator. downsample: its stages of stride 2, each with one back; published: 2."""

    channels: int = 64
    blocks: int = 9
    downsample: int = 0

    def __post_init__(self) -> None:
        require(self.channels >= 1, f"generator of {self.channels} channels")
        require(self.blocks >= 0, f"generator of {self.blocks} blocks")
        require(0 <= self.downsample <= 3, f"generator of {self.downsample} stages", "use 0 to 3")


# -- what all of them share ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class TranslationFitConfig:
    """How a translation network is trained: its length, optimisers, data and records."""

    iterations: int = 49_500  # 0: chosen by the time budget
    time_budget: float = 0.0  # seconds; 0: by iterations
    batch_size: int = 16
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    constant_share: float = 0.5  # share of the run at the full rate; then linearly to 0
    ema: float = 0.0  # decay per step; 0: none
    flips: bool = False
    cache_mib: int = 2048  # decoded images kept in memory at most
    held_out: float = 0.1  # share of the images kept for validation
    log_every: int = 20
    validate_every: int = 1_000
    preview_every: int = 1_000
    checkpoint_every: int = 1_000
    max_bad_steps: int = 20
    tensorboard: bool = False
    report: bool = True  # at the end, write report.html beside the model
    seed: int = 0

    def __post_init__(self) -> None:
        check_choices("fit", self)
        require(
            self.iterations > 0 or self.time_budget > 0,
            "neither fit.iterations nor fit.time_budget is set",
            "pass --time-budget 10m or --set fit.iterations=1000",
        )
        require(self.learning_rate > 0, "fit.learning_rate must be positive")
        require(0 <= self.constant_share <= 1, "fit.constant_share is a share of the run, 0 to 1")
        check_upkeep("fit", self, "images")
        require(
            all(0 <= beta < 1 for beta in self.betas), f"fit.betas are {self.betas}; each is 0 to below 1"
        )
        check_least("fit", self, ("iterations", "time_budget", "cache_mib", "seed"), 0)
        check_least("fit", self, ["batch_size"], 1)


@dataclass(frozen=True)
class TranslationConfig:
    """What every method's section says. patch_size: side of the small pictures that are compared.

    scale: between the large pictures of the folders and the small ones.
    """

    section: ClassVar[str]

    scale: int = 4
    patch_size: int = 128
    channels: int = 64
    discriminator_channels: int = 64

    def __post_init__(self) -> None:
        name = self.section
        check_choices(name, self)
        require(1 <= self.scale <= 8, f"{name}.scale is {self.scale}", "use 1 to 8")
        require(self.patch_size >= 16, f"{name}.patch_size is {self.patch_size}; at least 16 is needed")
        check_least(name, self, ("channels", "discriminator_channels"), 1)

    @property
    def large_side(self) -> int:
        """Side in px of the crops of large pictures."""
        return self.patch_size * self.scale

    def check_weights(self, names: tuple[str, ...]) -> None:
        """Raise ConfigError for a negative weight, or where all are zero."""
        weights = [float(getattr(self, key)) for key in names]
        for key, weight in zip(names, weights, strict=True):
            require(weight >= 0, f"{self.section}.{key} is a weight and must not be negative")
        require(sum(weights) > 0, f"all weights of {self.section} are zero")


# -- frequency separation: DSGAN and DASR -------------------------------------------------------------------


@dataclass(frozen=True)
class FrequencyConfig(TranslationConfig):
    """Low frequencies are kept by a loss, high ones judged by a discriminator."""

    blocks: int = 8
    # what separates the frequencies: 5 x 5 average | 5 x 5 Gaussian, sigma 5/6 | one-level Haar wavelet
    frequencies: Literal["average", "gaussian", "wavelet"] = "average"
    normalisation: Literal["batch", "instance"] = "batch"  # of the discriminator
    colour: float = 1.0
    perceptual: float = 0.01
    adversarial: float = 0.005
    features: Literal["alexnet", "none"] = "alexnet"  # LPIPS on AlexNet | no perceptual loss
    features_file: str = ""  # AlexNet's weights; empty: those on this machine

    def __post_init__(self) -> None:
        super().__post_init__()
        name = self.section
        self.check_weights(("colour", "perceptual", "adversarial"))
        require(self.blocks >= 1, f"{name}.blocks must be at least 1")
        require(
            self.patch_size % 2 == 0 or self.frequencies != "wavelet",
            f"{name}.patch_size is {self.patch_size}; the wavelet needs an even side",
        )
        require(
            self.features == "none" or self.patch_size >= LEAST_PERCEPTUAL_SIDE,
            f"{name}.patch_size is {self.patch_size}; LPIPS needs at least {LEAST_PERCEPTUAL_SIDE} px",
            f"pass --set {name}.patch_size=32, or --perceptual none",
        )


@dataclass(frozen=True)
class DsganConfig(FrequencyConfig):
    """DSGAN of FSSR (arXiv 1911.07850): noisy pictures made small by bicubic interpolation get noise back."""

    section = "dsgan"

    @property
    def generator(self) -> ResidualGeneratorConfig:
        """The generator's sizes."""
        return ResidualGeneratorConfig(self.channels, self.blocks)


@dataclass(frozen=True)
class DasrConfig(FrequencyConfig):
    """The down-sampling network of DASR (arXiv 2004.01178), by its AIM 2019 recipe."""

    patch_size: int = 64
    normalisation: Literal["batch", "instance"] = "instance"
    adversarial: float = 0.006

    section = "dasr"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scale in (2, 4, 8), f"dasr.scale is {self.scale}", "use 2, 4 or 8")

    @property
    def generator(self) -> ResidualGeneratorConfig:
        """The generator's sizes."""
        return ResidualGeneratorConfig(self.channels, self.blocks, self.scale)


@dataclass(frozen=True)
class DsganRunConfig:
    """A whole `deflow fit --method dsgan` run."""

    dsgan: DsganConfig = field(default_factory=DsganConfig)
    fit: TranslationFitConfig = field(default_factory=TranslationFitConfig)

    @property
    def translation(self) -> DsganConfig:
        """The method's own section."""
        return self.dsgan


@dataclass(frozen=True)
class DasrFitConfig(TranslationFitConfig):
    """DASR's training: 400 epochs, of which the last 150 with a falling rate."""

    iterations: int = 132_400
    batch_size: int = 8
    learning_rate: float = 1e-4
    constant_share: float = 0.625


@dataclass(frozen=True)
class DasrRunConfig:
    """A whole `deflow fit --method dasr` run."""

    dasr: DasrConfig = field(default_factory=DasrConfig)
    fit: DasrFitConfig = field(default_factory=DasrFitConfig)

    @property
    def translation(self) -> DasrConfig:
        """The method's own section."""
        return self.dasr


# -- CycleGAN -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CycleGanConfig(TranslationConfig):
    """CycleGAN between clean pictures made small and noisy ones (arXiv 1909.09629)."""

    blocks: int = 9
    downsample: int = 0  # stages of stride 2 in the generators; the original CycleGAN has 2
    cycle: float = 10.0
    identity: float = 5.0
    adversarial: float = 1.0
    history: int = 50  # generated pictures that each discriminator sees again; 0: none

    section = "cyclegan"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_weights(("cycle", "identity", "adversarial"))
        require(self.blocks >= 1, "cyclegan.blocks must be at least 1")
        require(self.history >= 0, "cyclegan.history must not be negative")
        require(0 <= self.downsample <= 3, f"cyclegan.downsample is {self.downsample}", "use 0 to 3")
        multiple = 2**self.downsample
        require(
            self.patch_size % multiple == 0,
            f"cyclegan.patch_size is {self.patch_size}, no multiple of {multiple}",
        )
        require(
            self.patch_size >= 32, f"cyclegan.patch_size is {self.patch_size}; its discriminator needs 32"
        )

    @property
    def generator(self) -> CycleGeneratorConfig:
        """The sizes of both generators."""
        return CycleGeneratorConfig(self.channels, self.blocks, self.downsample)


@dataclass(frozen=True)
class CycleFitConfig(TranslationFitConfig):
    """CycleGAN's training: one picture a step, 200 epochs."""

    iterations: int = 160_000
    batch_size: int = 1


@dataclass(frozen=True)
class CycleGanRunConfig:
    """A whole `deflow fit --method cyclegan` run."""

    cyclegan: CycleGanConfig = field(default_factory=CycleGanConfig)
    fit: CycleFitConfig = field(default_factory=CycleFitConfig)

    @property
    def translation(self) -> CycleGanConfig:
        """The method's own section."""
        return self.cyclegan
