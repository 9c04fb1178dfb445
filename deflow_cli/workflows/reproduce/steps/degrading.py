"""Degrading steps: the fits of the degraders, and the pairs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from deflow_cli.config.fit import RunConfig
from deflow_cli.presets.methods import fit_method
from deflow_cli.presets.reader import FIT
from deflow_cli.workflows.fit.closed_form import SampleSizes
from deflow_cli.workflows.fit.run import FitRequest, fit
from deflow_cli.workflows.fitting import FoldersToFit, fit_by
from deflow_cli.workflows.pairs.plan import PairSettings
from deflow_cli.workflows.pairs.run import MakePairsRequest, make_pairs
from deflow_cli.workflows.reproduce.experiments import SR_SCALE
from deflow_cli.workflows.reproduce.methods import Method
from deflow_cli.workflows.reproduce.recipes import BaselineConfig
from deflow_cli.workflows.reproduce.steps.base import (
    Bench,
    ExperimentStep,
    degrader_for,
    went_on,
)
from deflow_cli.workflows.reproduce.steps.ledger import Facts
from deflow_cli.workflows.reproduce.steps.preparing import RULE, SAMPLING


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


@dataclass(frozen=True)
class PairsStep(ExperimentStep):
    """One degraded image for every clean one, as ``deflow make-pairs`` makes it."""

    method: Method
    seed: int

    def run(self, bench: Bench) -> Facts:
        request = MakePairsRequest(
            bench.hr,
            bench.ledger.folder(self.name),
            PairSettings(scale=SR_SCALE, resize=RULE, kernel_sampling=SAMPLING, seed=self.seed),
            degrader_for(self.method, self.seed, bench),
            kernels=bench.kernels_folder if self.method.blurred else None,
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
