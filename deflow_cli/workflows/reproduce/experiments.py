"""Experiments: the paper's tables 1 to 4 as data: what they read, and how models are trained on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from deflow_cli.config.fit import RunConfig
from deflow_cli.config.restorer import SrConfig
from deflow_cli.errors import ConfigError
from deflow_cli.presets.reader import FIT, SR
from deflow_cli.workflows.reproduce.published import FIDELITY, NO_REFERENCE

Role = Literal["noisy", "clean", "valid_input", "valid_truth"]
SR_SCALE = 4
KEPT_STEPS = (10_000, 20_000, 40_000, 60_000)  # of the restorer, section 5.5 of the paper
LEAST_SIGMAS = (2.0, 4.0, 8.0, 12.0, 16.0)  # grey levels that white noise is tuned over


@dataclass(frozen=True)
class PartOfData:
    """A folder that an experiment reads. names: in the archives of the challenge and elsewhere."""

    role: Role
    what: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """One table. number: the paper's.

    preset: of ``deflow fit``. factor: clean images are cropped to a multiple of it, as all scales that DeFlow
    prepares need it. clean_is_noisy: the clean side are the noisy images made small (DPED). chosen_by: the
    metric that chooses among the kept steps of a restorer on the validation images; empty: the last one.
    """

    name: str
    title: str
    number: int
    preset: str
    factor: int
    parts: tuple[PartOfData, ...]
    measures: tuple[str, ...] = FIDELITY
    chosen_by: str = "lpips"
    clean_is_noisy: bool = False
    restorer: tuple[str, ...] = ()


_AIM_PARTS = (
    PartOfData("noisy", "degraded training images", ("train-noisy-images", "TrainingSource")),
    PartOfData("clean", "clean training images", ("train-clean-images", "TrainingTarget", "DIV2K_train_HR")),
    PartOfData("valid_input", "degraded validation inputs", ("valid-input-noisy", "ValidationSource")),
    PartOfData(
        "valid_truth", "clean validation images", ("valid-gt-clean", "ValidationGT", "DIV2K_valid_HR")
    ),
)

EXPERIMENTS: Mapping[str, Experiment] = {
    one.name: one
    for one in (
        Experiment("aim", "AIM-RWSR", 1, "aim", 32, _AIM_PARTS),
        Experiment(
            "ntire",
            "NTIRE-RWSR",
            2,
            "ntire",
            16,
            (
                PartOfData("noisy", "degraded training images", ("Corrupted-tr-x",)),
                PartOfData("clean", "clean training images", ("Corrupted-tr-y", "DIV2K_train_HR")),
                PartOfData("valid_input", "degraded validation inputs", ("Corrupted-va-x",)),
                PartOfData("valid_truth", "clean validation images", ("track1-valid-gt", "DIV2K_valid_HR")),
            ),
        ),
        Experiment(
            "dped",
            "DPED-RWSR",
            3,
            "dped",
            16,
            (
                PartOfData("noisy", "phone photographs to train on", ("DPEDiphone-tr-x",)),
                PartOfData("valid_input", "phone photographs to validate on", ("DPEDiphone-va",)),
            ),
            measures=NO_REFERENCE,
            chosen_by="",
            clean_is_noisy=True,
            restorer=("loss.discriminator=patch",),
        ),
        Experiment("ablations", "Ablations on AIM-RWSR", 4, "aim", 32, _AIM_PARTS),
    )
}


@dataclass(frozen=True)
class Recipe:
    """How models of an experiment are trained.

    kept: steps of the restorer that are scored; none where it is trained by a time budget. tuning: steps of
    the restorers that white noise is tuned by; 0: as the others. images: at most so many validation images
    are degraded for the realism columns, 0: all. small: whether it is scaled down.
    """

    fit: RunConfig
    start: SrConfig
    restorer: SrConfig
    kept: tuple[int, ...]
    tuning: int
    sigmas: tuple[float, ...]
    images: int = 0
    small: bool = False


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
    "fit.iterations=200",
    "fit.report=false",
)
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
    experiment: Experiment, *, small: bool, settings: tuple[str, ...], budget: float, trainings: int
) -> Recipe:
    """The configurations of an experiment, changed by ``settings`` (``section.key=value``).

    small: for teaching and tests. budget: seconds for all trainings together, which share it evenly; 0: by
    steps. Raises ConfigError for a setting that neither ``deflow fit`` nor ``deflow sr-train`` has.
    """
    of_fit, of_restorer = _sorted_settings(settings)
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


def _sorted_settings(settings: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Those of the fit and those of the restorer, by their sections. Raises ConfigError for others."""
    of_fit = [text for text in settings if text.partition(".")[0] in FIT.sections]
    of_restorer = [text for text in settings if text.partition(".")[0] in SR.sections]
    for text in settings:
        if text not in of_fit and text not in of_restorer:
            sections = ", ".join((*FIT.sections, *SR.sections))
            raise ConfigError(
                f"--set: {text!r} names no setting", next_step=f"write section.key=value, of {sections}"
            )
    return of_fit, of_restorer
