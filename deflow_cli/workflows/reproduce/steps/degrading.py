"""Degrading steps: the clean side, the fits of flows, and the pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deflow_cli.config.fit import RunConfig
from deflow_cli.data.blur.kernels import BlurKernel, blur_and_downsample, load_kernels
from deflow_cli.data.images.files import Image, read_rgb8, write_image
from deflow_cli.data.images.resize import Rule, downsample
from deflow_cli.errors import DataError
from deflow_cli.inference.positional_noise import stable_generator
from deflow_cli.presets.methods import fit_method
from deflow_cli.presets.reader import FIT
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.fit.closed_form import SampleSizes
from deflow_cli.workflows.fit.run import FitRequest, fit
from deflow_cli.workflows.fitting import FoldersToFit, fit_by
from deflow_cli.workflows.pairs.plan import PairSettings
from deflow_cli.workflows.pairs.run import MakePairsRequest, make_pairs
from deflow_cli.workflows.reproduce.experiments import SR_SCALE
from deflow_cli.workflows.reproduce.methods import Method
from deflow_cli.workflows.reproduce.recipes import BaselineConfig
from deflow_cli.workflows.reproduce.steps.base import (
    CLEAN_SMALL,
    VALID_SMALL,
    Bench,
    ExperimentStep,
    degrader_for,
    went_on,
)
from deflow_cli.workflows.reproduce.steps.ledger import Facts

RULE: Rule = "deflow"


# -- the clean side -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PrepareStep(ExperimentStep):
    """The clean side at the scale of the degraded images, and the validation's clean images alike.

    Each image is cropped from its upper left corner to a multiple of the experiment's factor, so that every
    scale is whole, and made small by MATLAB's bicubic with halves rounded to even, as DeFlow's data were.
    """

    def run(self, bench: Bench) -> Facts:
        folder = bench.ledger.folder(self.name)
        factor = bench.experiment.factor
        kernels = load_kernels(bench.kernels) if bench.kernels is not None else []
        parts = bench.layout.parts
        source = parts["noisy" if bench.experiment.clean_is_noisy else "clean"]
        made = make_small(source.folder, source.images, folder / CLEAN_SMALL, factor, kernels, bench.reporter)
        truth = parts.get("valid_truth")
        small = 0
        if truth is not None:
            small = make_small(truth.folder, truth.images, folder / VALID_SMALL, SR_SCALE, (), bench.reporter)
        return {"clean": made, "valid_clean": small}


def make_small(
    root: Path,
    images: Sequence[Path],
    target: Path,
    factor: int,
    kernels: Sequence[BlurKernel],
    reporter: Reporter,
) -> int:
    """Write images, `SR_SCALE` times smaller, under their names as PNG; those that exist are kept.

    kernels: one of them, drawn by the image's name, blurs each image first. Returns how many there are.
    Raises DataError where an image is smaller than ``factor``.
    """
    reporter.start(f"making {target.name}", len(images))
    for done, path in enumerate(images, start=1):
        name = path.relative_to(root).with_suffix(".png")
        if not (target / name).is_file():
            pixels = read_rgb8(path)
            height, width = (side // factor * factor for side in pixels.shape[:2])
            if not height or not width:
                raise DataError(f"{path}: smaller than {factor} px", next_step="take it out of its folder")
            cropped = pixels[:height, :width]
            if kernels:
                drawn = kernels[int(stable_generator(0, name.as_posix(), "kernel").integers(len(kernels)))]
                values = blur_and_downsample(cropped, drawn, SR_SCALE, RULE, "bicubic")
                small = values if values.dtype == "uint8" else (values.clip(0, 1) * 255 + 0.5).astype("uint8")
            else:
                small = downsample(cropped, SR_SCALE, RULE)
            write_image(target / name, Image(small))
        reporter.update(done)
    reporter.finish()
    return len(images)


# -- the degraders ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FitStep(ExperimentStep):
    """A fit of a flow, as ``deflow fit`` does it."""

    trains: ClassVar[bool] = True

    config: RunConfig
    samples: SampleSizes

    def run(self, bench: Bench) -> Facts:
        request = FitRequest(
            bench.folder_of("clean_small"),
            bench.folder_of("noisy"),
            bench.ledger.folder(self.name),
            self.config,
            device=bench.device,
            resume=True,
            samples=self.samples,
        )
        result = fit(request, bench.reporter)
        went_on(result.interrupted)
        return {
            "step": result.step,
            "bits_per_dim_clean": round(result.bits_per_dim_clean, 6),
            "bits_per_dim_noisy": round(result.bits_per_dim_noisy, 6),
        }


@dataclass(frozen=True)
class BaselineFitStep(ExperimentStep):
    """A fit of another method's network, as ``deflow fit --method`` does it."""

    trains: ClassVar[bool] = True

    method: Method
    config: BaselineConfig

    def run(self, bench: Bench) -> Facts:
        role = self.method.learns_from.get(bench.experiment.name)
        folders = FoldersToFit(
            bench.hr if role is None else bench.folder_of(role),
            bench.folder_of("noisy"),
            bench.ledger.folder(self.name),
            device=bench.device,
            resume=True,
        )
        result = fit_by(fit_method(self.method.name), folders, self.config, bench.reporter)
        went_on(result.interrupted)
        return {"step": result.step}


# -- the pairs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairsStep(ExperimentStep):
    """One degraded image for every clean one, as ``deflow make-pairs`` makes it."""

    method: Method
    seed: int

    def run(self, bench: Bench) -> Facts:
        request = MakePairsRequest(
            bench.hr,
            bench.ledger.folder(self.name),
            PairSettings(scale=SR_SCALE, resize=RULE, seed=self.seed),
            degrader_for(self.method, self.seed, bench),
            kernels=bench.kernels if self.method.blurred else None,
            device=bench.device,
        )
        return {"pairs": make_pairs(request, bench.reporter).pairs}


def fit_of_seed(config: RunConfig, method: Method, seed: int) -> RunConfig:
    """The experiment's configuration with a method's own settings, for a seed."""
    changed = FIT.apply_overrides(config, method.overrides)
    return dataclasses.replace(changed, fit=dataclasses.replace(changed.fit, seed=changed.fit.seed + seed))


def baseline_of_seed(config: BaselineConfig, method: Method, seed: int) -> BaselineConfig:
    """The configuration of another method's fit, for a seed."""
    changed: BaselineConfig = fit_method(method.name).presets.apply_overrides(
        config, [f"fit.seed={config.fit.seed + seed}"]
    )
    return changed
