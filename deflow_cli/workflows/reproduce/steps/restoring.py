"""Restoring steps: the start that all restorers share, the restorers, and their scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.checkpoints.hub import find, locate, remote_file
from deflow_cli.config.restorer import LossConfig, SrConfig
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import CheckpointError
from deflow_cli.metrics.options import ScorerOptions
from deflow_cli.paths import LAST_RESTORER_FILE, RESTORER_FILE
from deflow_cli.texts import json_text
from deflow_cli.training.run_folder import read_log
from deflow_cli.workflows.reproduce.experiments import SR_SCALE
from deflow_cli.workflows.reproduce.methods import Method
from deflow_cli.workflows.reproduce.steps.base import (
    Bench,
    ExperimentStep,
    degrader_for,
    require_all,
    went_on,
)
from deflow_cli.workflows.reproduce.steps.ledger import Facts
from deflow_cli.workflows.restore import RestoreRequest, restore
from deflow_cli.workflows.restorer.data import SrSource
from deflow_cli.workflows.restorer.request import SrRequest, SrResult, kept_restorer
from deflow_cli.workflows.restorer.run import sr_train
from deflow_cli.workflows.score.run import ScoreRequest, score

START = "start"  # the step that trains the restorer that all others start from
BY_HELD_OUT, LAST = "held-out", "last"  # models of a run that was trained by a time budget
WEIGHTS_OF = {"lpips": "alexnet", "brisque": "brisque"}  # by measure, as `deflow weights` names them
SCORES_FILE = "scores.json"

ScoreFacts = dict[str, dict[str, float]]  # by metric: mean over images, and its 95 % interval


def pairs_name(method: str, seed: int) -> str:
    """The step that makes a method's pairs."""
    return f"pairs/{method}/seed{seed}"


def restorer_name(method: str, seed: int) -> str:
    """The step that trains a method's restorer."""
    return f"restorers/{method}/seed{seed}"


def scores_name(method: str, seed: int) -> str:
    """The step that scores a method's restorer."""
    return f"scores/{method}/seed{seed}"


def lacking_weights(measures: Sequence[str]) -> dict[str, str]:
    """Measures whose weights are not on this machine, and the weights' names for ``deflow weights``."""
    return {
        measure: name
        for measure, name in WEIGHTS_OF.items()
        if measure in measures and find(remote_file(name)) is None
    }


def train_restorer(
    bench: Bench,
    out: Path,
    config: SrConfig,
    *,
    pairs: Path | None = None,
    degrader: DegraderChoice | None = None,
    starts: bool = True,
) -> SrResult:
    """Train from pairs, or from the clean images and a degrader; goes on where it was interrupted.

    starts: from the common start, or else from nothing.
    """
    if pairs is not None:
        source = SrSource(pairs=pairs)
    else:
        source = SrSource(hr=bench.hr, scale=SR_SCALE, degrader=degrader or DegraderChoice("none"))
    init = None
    if starts:
        init = bench.init or bench.ledger.folder(START) / RESTORER_FILE
    result = sr_train(SrRequest(source, out, config, init, device=bench.device, resume=True), bench.reporter)
    went_on(result.interrupted)
    return result


def require_features(loss: LossConfig) -> None:
    """Raise CheckpointError where the perceptual loss lacks its weights: better now than after the fits."""
    if loss.features == "vgg19":
        given = Path(loss.features_file) if loss.features_file else None
        try:
            locate("vgg19", given)
        except CheckpointError as error:
            raise CheckpointError(
                str(error), next_step=f"{error.next_step}; or train without: --set loss.features=none"
            ) from error


@dataclass(frozen=True)
class StartStep(ExperimentStep):
    """A restorer of clean images made small, by L1 alone: what the published start, RRDB_PSNR_x4, is."""

    trains: ClassVar[bool] = True

    config: SrConfig

    def run(self, bench: Bench) -> Facts:
        result = train_restorer(bench, bench.ledger.folder(self.name), self.config, starts=False)
        return {"step": result.step, "best_step": result.best_step}


@dataclass(frozen=True)
class TrainRestorerStep(ExperimentStep):
    """A method's restorer. pairs: the step with its pairs; None: the degrader degrades every crop anew."""

    trains: ClassVar[bool] = True
    needs_features: ClassVar[bool] = True

    method: Method
    seed: int
    config: SrConfig
    pairs: str | None

    def run(self, bench: Bench) -> Facts:
        folder = bench.ledger.folder(self.name)
        if self.pairs is not None:
            result = train_restorer(bench, folder, self.config, pairs=bench.ledger.folder(self.pairs))
        else:
            degrader = degrader_for(self.method, self.seed, bench)
            result = train_restorer(bench, folder, self.config, degrader=degrader)
        return {"step": result.step, "best_step": result.best_step, "select": result.select}


@dataclass(frozen=True)
class ScoreStep(ExperimentStep):
    """The validation images through each kept model of a restorer, and their scores by protocol A.

    held_out: the model with the best scores on the pairs that were held out of the training.
    """

    restorer: str

    def run(self, bench: Bench) -> Facts:
        run, kept = bench.ledger.folder(self.restorer), bench.recipe.kept
        if kept:
            models = {str(step): kept_restorer(run, step) for step in kept}
            held_out = _best_held_out(run, kept)
        else:
            models, held_out = {BY_HELD_OUT: run / RESTORER_FILE, LAST: run / LAST_RESTORER_FILE}, BY_HELD_OUT
        scores = restored_scores(bench, models, bench.ledger.folder(self.name))
        return {"scores": scores, "held_out": held_out, "last": list(models)[-1]}


def _best_held_out(run: Path, kept: tuple[int, ...]) -> str | None:
    """The kept step with the best validation in the run's log; None where none was validated."""
    rows = {row["step"]: row for row in read_log(run) if "held_out_psnr" in row and row["step"] in kept}
    if not rows:
        return None
    if all("held_out_lpips" in row for row in rows.values()):
        return str(min(rows, key=lambda step: rows[step]["held_out_lpips"]))
    return str(max(rows, key=lambda step: rows[step]["held_out_psnr"]))


def restored_scores(bench: Bench, models: Mapping[str, Path], folder: Path) -> dict[str, ScoreFacts]:
    """Scores of the validation images by several models, the restored images below ``folder``.

    Raises DataError where an image cannot be restored. Metrics whose weights are not on this machine are left
    out, which is told.
    """
    for name, model in models.items():
        request = RestoreRequest(
            bench.folder_of("valid_input"), folder / name, model, skip_existing=True, device=bench.device
        )
        require_all(restore(request, bench.reporter).failed)
    experiment = bench.experiment
    reference = None if experiment.clean_is_noisy else bench.folder_of("valid_truth")
    outputs = tuple(folder / name for name in models)
    wanted = ScoreRequest(outputs, reference, experiment.measures, ScorerOptions(), device=bench.device)
    report = score(wanted, bench.reporter)
    require_all(report.unreadable)
    for missing in report.unavailable:
        bench.reporter.warn(f"{missing.metric} is left out: {missing.message}; {missing.next_step}")
    write_atomically(folder / SCORES_FILE, (json_text(report.as_dict(), indent=1) + "\n").encode())
    found: dict[str, ScoreFacts] = {name: {} for name in models}
    for row in report.summaries:
        values = {"mean": row.summary.mean, "low": row.summary.low, "high": row.summary.high}
        found[row.method][row.metric] = {key: value for key, value in values.items() if math.isfinite(value)}
    return found
