"""Recipes: how the models of an experiment are trained, as published or made small, and a user's settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from deflow_cli.config.fit import RunConfig
from deflow_cli.config.kernels import KernelSettings
from deflow_cli.config.restorer import SrConfig
from deflow_cli.config.translation import CycleGanRunConfig, DasrRunConfig, DsganRunConfig
from deflow_cli.errors import ConfigError
from deflow_cli.presets.methods import DEFAULT_METHOD, fit_methods
from deflow_cli.presets.reader import FIT, SR
from deflow_cli.workflows.reproduce.experiments import SR_SCALE, Experiment

KEPT_STEPS = (10_000, 20_000, 40_000, 60_000)  # of the restorer, section 5.5 of the paper
LEAST_SIGMAS = (2.0, 4.0, 8.0, 12.0, 16.0)  # grey levels that white noise is tuned over
_KERNELS = KernelSettings("kernelgan", SR_SCALE)
_SMALL_KERNELS = KernelSettings("spectrum", SR_SCALE)
_SMALL_KERNEL_IMAGES = 4
BaselineConfig = DsganRunConfig | DasrRunConfig | CycleGanRunConfig


@dataclass(frozen=True)
class Recipe:
    """How models of an experiment are trained.

    kept: steps of the restorer that are scored; none where it is trained by a time budget. tuning: steps of
    the restorers that white noise is tuned by; 0: as the others. images: at most so many validation images
    are degraded for the realism columns, 0: all. small: whether it is scaled down. baselines: how the other
    methods of ``deflow fit`` are fitted, by name. kernels: how blur kernels are estimated, of the first
    ``kernel_images`` degraded images.
    """

    fit: RunConfig
    start: SrConfig
    restorer: SrConfig
    kept: tuple[int, ...]
    tuning: int
    sigmas: tuple[float, ...]
    images: int = 0
    small: bool = False
    baselines: Mapping[str, BaselineConfig] = field(default_factory=dict)
    kernels: KernelSettings = _KERNELS
    kernel_images: int = 100


# Small fits, for minutes on a CPU. Of the ablations: the experiment's own preset made small.
_SMALL_ABLATION = (
    "flow.hidden_channels=32",
    "encoder.channels=16",
    "encoder.growth_channels=8",
    "encoder.blocks=2",
    "encoder.stacked_blocks=0,1",
    "fit.iterations=2000",
    "fit.patch_size=64",
    "fit.report=false",
)
# Of the others: what `tiny` does to be sane after minutes, without what the paper's model has not.
_SMALL_FIT = (
    "flow.shift=correlated",
    "flow.gain=none",
    "flow.grain=none",
    "fit.leak_test=false",
    "fit.time_budget=0",
    "fit.iterations=100",
    "fit.batch_size=8",
    "fit.report=false",
)
_SMALL_BASELINE = ("fit.time_budget=0", "fit.iterations=100", "fit.report=false")
# One thousandth of the restorer's steps, and a small network.
_SMALL_RESTORER = (
    "sr.start=identity",
    "restorer.channels=16",
    "restorer.blocks=1",
    "restorer.growth_channels=16",
    "loss.features=none",
    "loss.discriminator_channels=8",
    "psnr.iterations=60",
    "gan.iterations=60",
    "sr.batch_size=4",
    "sr.gt_size=32",
    "sr.validate_every=10",
    "sr.preview_every=60",
    "sr.validate_side=128",
)
SMALL_DIVISOR = 1000
_SMALL_IMAGES = 8


def recipe(
    experiment: Experiment, *, small: bool, settings: Sequence[str], budget: float, trainings: int
) -> Recipe:
    """The configurations of an experiment, changed by ``settings`` (``section.key=value``).

    small: for teaching and tests. budget: seconds for all trainings together, which share it evenly; 0: by
    steps. Raises ConfigError for a setting that no method of ``deflow fit`` has, nor ``deflow sr-train``.
    """
    of_fit, of_restorer, of_others = _sorted_settings(settings)
    fit = FIT.apply_overrides(_fit_config(experiment, small), of_fit)
    common = ["sr.select=auto", *experiment.restorer, *(_SMALL_RESTORER if small else ()), *of_restorer]
    sr = SR.apply_overrides(SR.load("paper"), common)
    kept = tuple(step // SMALL_DIVISOR for step in KEPT_STEPS) if small else KEPT_STEPS
    last = sr.gan.iterations
    kept = tuple(dict.fromkeys((*(step for step in kept if step < last), last)))
    share = budget / trainings if budget else 0.0
    if budget:
        fit = dataclasses.replace(fit, fit=dataclasses.replace(fit.fit, iterations=0, time_budget=share))
        kept = ()
    return Recipe(
        fit,
        _staged(sr, "psnr", (), share),
        _staged(sr, "gan", kept, share),
        kept,
        kept[0] if kept else 0,
        LEAST_SIGMAS[1:3] if small else LEAST_SIGMAS,
        _SMALL_IMAGES if small else 0,
        small,
        _baselines(of_others, small, share),
        *((_SMALL_KERNELS, _SMALL_KERNEL_IMAGES) if small else ()),
    )


def _fit_config(experiment: Experiment, small: bool) -> RunConfig:
    full = FIT.load(experiment.preset)
    if not small:
        return full
    if experiment.name == "ablations":
        return FIT.apply_overrides(full, _SMALL_ABLATION)
    theirs = [
        f"flow.downsample={full.flow.downsample}",
        f"fit.channel_statistics={full.fit.channel_statistics}",
    ]
    return FIT.apply_overrides(FIT.load("tiny"), [*_SMALL_FIT, *theirs])


def _staged(
    config: SrConfig, stage: Literal["psnr", "gan"], kept: tuple[int, ...], budget: float
) -> SrConfig:
    """The configuration of a run of one stage."""
    sr = dataclasses.replace(config.sr, stage=stage, keep_at=kept, time_budget=budget)
    if not budget:
        return dataclasses.replace(config, sr=sr)
    psnr = dataclasses.replace(config.psnr, iterations=0)
    gan = dataclasses.replace(config.gan, iterations=0)
    return dataclasses.replace(config, psnr=psnr, gan=gan, sr=sr)


def _baselines(settings: Sequence[str], small: bool, share: float) -> dict[str, BaselineConfig]:
    """A configuration for each method of ``deflow fit`` but the flow's, by name.

    settings: ``dsgan.fit.iterations=9`` changes a setting of the fit, ``dsgan.channels=8`` one of the method.
    """
    found: dict[str, BaselineConfig] = {}
    for name, method in fit_methods().items():
        if name == DEFAULT_METHOD:
            continue
        config = method.presets.load(method.cpu_preset if small else method.gpu_preset)
        overrides = list(_SMALL_BASELINE) if small else []
        if small and "perceptual" in method.options:
            overrides.append(f"{method.options['perceptual']}=none")
        own = [text for text in settings if text.startswith(f"{name}.")]
        overrides += [text.removeprefix(f"{name}.") if ".fit." in text else text for text in own]
        if share:
            overrides += ["fit.iterations=0", f"fit.time_budget={share!r}"]
        found[name] = method.presets.apply_overrides(config, overrides)
    return found


def _sorted_settings(settings: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Those of the flow's fit, of the restorer and of the other methods, by their sections.

    Raises ConfigError for others.
    """
    others = [name for name in fit_methods() if name != DEFAULT_METHOD]
    kinds: tuple[list[str], list[str], list[str]] = ([], [], [])
    for text in settings:
        section = text.partition(".")[0]
        known = [list(FIT.sections), list(SR.sections), others]
        place = next((number for number, names in enumerate(known) if section in names), None)
        if place is None:
            sections = ", ".join(name for names in known for name in names)
            raise ConfigError(
                f"--set: {text!r} names no setting", next_step=f"write section.key=value, of {sections}"
            )
        kinds[place].append(text)
    return kinds
