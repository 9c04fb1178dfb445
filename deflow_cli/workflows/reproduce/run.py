"""`deflow reproduce`: an experiment of the paper from its data to its table, step by step."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deflow_cli.checkpoints.registry import local_copy
from deflow_cli.data.blur.kernels import load_kernels
from deflow_cli.data.images.folders import file_sha256
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.errors import CheckpointError, ConfigError, DeflowError
from deflow_cli.paths import RESTORER_FILE, RUN_LOCK
from deflow_cli.runtime.folder_lock import sole_writer
from deflow_cli.runtime.joining import refuse_ranks
from deflow_cli.runtime.progress import Reporter
from deflow_cli.texts import encoded
from deflow_cli.workflows.reproduce.experiments import EXPERIMENTS, Experiment
from deflow_cli.workflows.reproduce.layouts import ChallengeLayout, find_layout, warn_of_swapped_sides
from deflow_cli.workflows.reproduce.methods import Method, chosen_methods, missing_roles
from deflow_cli.workflows.reproduce.miniature import write_miniature
from deflow_cli.workflows.reproduce.plan import ExperimentPlan
from deflow_cli.workflows.reproduce.rates import HOW, HOW_SMALL
from deflow_cli.workflows.reproduce.recipes import recipe
from deflow_cli.workflows.reproduce.results import (
    example_crops,
    missing_weights,
    reproduced_table,
    write_table,
)
from deflow_cli.workflows.reproduce.steps.base import STAGES, Bench, Cost, ExperimentStep, Stage
from deflow_cli.workflows.reproduce.steps.ledger import Condition, Ledger
from deflow_cli.workflows.reproduce.steps.restoring import require_features
from deflow_cli.workflows.reproduce.tables import ReproducedTable, markdown


@dataclass(frozen=True)
class ReproduceRequest:
    """What `deflow reproduce` was asked for.

    experiment: a name of `EXPERIMENTS`. stage: the last one that is done. only: methods, none for all.
    budget: seconds for all trainings together; 0: by steps. settings: ``section.key=value`` of fits and
    restorers. init: an ESRGAN that restorers start from, a file or a name on the Hub; None: one is trained.
    kernels: a folder of blur kernels for the clean side of DPED. miniature: the data are made of packaged
    photographs first, and the experiment is scaled down.
    """

    experiment: str
    data: Path
    out: Path
    stage: Stage = "table"
    only: tuple[str, ...] = ()
    budget: float = 0.0
    seeds: int = 1
    settings: tuple[str, ...] = ()
    init: Path | None = None
    kernels: Path | None = None
    scale_down: bool = False
    miniature: bool = False
    device: str = "auto"
    dry_run: bool = False


@dataclass(frozen=True)
class StepReport:
    """A step, and how it stood before this run. why: it is done again, if so. done: by now."""

    name: str
    stage: Stage
    what: str
    inputs: tuple[str, ...]
    condition: Condition
    why: str
    done: bool
    cost: Cost


@dataclass(frozen=True)
class FailedStep:
    """A step that could not be done; those that need it were left out."""

    name: str
    reason: str
    next_step: str


@dataclass(frozen=True)
class ReproduceReport:
    """What was found, done, and measured.

    data: what was read, a line for each folder. missing_data, missing_weights: in words. estimate: of the
    steps not yet done, and how it was made. table: None where the stage asked for ends before it.
    files: of the table.
    """

    experiment: str
    title: str
    out: Path
    data: tuple[str, ...]
    missing_data: tuple[str, ...]
    missing_weights: tuple[str, ...]
    steps: tuple[StepReport, ...]
    estimate: Cost
    how_estimated: str
    failed: tuple[FailedStep, ...] = ()
    table: ReproducedTable | None = None
    files: tuple[Path, ...] = ()


def stage_named(name: str) -> Stage:
    """The stage of a name. Raises ConfigError for another."""
    for stage in STAGES:
        if stage == name:
            return stage
    raise ConfigError(f"{name!r} is no stage", next_step=f"use one of {', '.join(STAGES)}")


def report_text(report: ReproduceReport) -> str:
    """The table as Markdown; before it is made, what is done."""
    if report.table is not None:
        return markdown(report.table)
    done = sum(step.done for step in report.steps)
    return f"{done} of {len(report.steps)} steps are done, in {report.out}"


@hears_remarks
def reproduce(request: ReproduceRequest, reporter: Reporter) -> ReproduceReport:
    """Do all steps of an experiment that are not done yet, and write its table; a dry run does nothing.

    Raises DataError naming every missing folder, ConfigError for options that do not fit, and what the
    commands raise that the steps stand for.
    """
    refuse_ranks("deflow reproduce")
    experiment = EXPERIMENTS.get(request.experiment)
    if experiment is None:
        raise ConfigError(
            f"{request.experiment!r} is no experiment", next_step=f"use one of {', '.join(EXPERIMENTS)}"
        )
    if request.seeds < 1:
        raise ConfigError(f"{request.seeds} seeds", next_step="use --seeds 1 or more")
    if request.miniature and not request.dry_run and not _holds_images(request.data):
        write_miniature(request.data, experiment)
        reporter.note(f"{request.data}: a miniature of {experiment.title} was made of packaged photographs")
    if request.init is not None:
        request = dataclasses.replace(request, init=local_copy(request.init, RESTORER_FILE).path)
    layout = find_layout(request.data, experiment)
    for part in layout.parts.values():
        reporter.note(f"{part.role}: {part.text}")
    methods = [
        method
        for method in chosen_methods(experiment.name, request.only)
        if not _is_left_out(method, experiment, layout, reporter)
    ]
    plan = _plan(request, experiment, layout, methods)
    if request.dry_run and layout.missing:
        return _report(request, plan, [], None, reporter)
    layout.require()
    steps = [step for step in plan.steps() if STAGES.index(step.stage) <= STAGES.index(request.stage)]
    ledger = Ledger(request.out, steps)
    if request.dry_run:
        return _report(request, plan, steps, ledger, reporter)
    bench = Bench(
        experiment, layout, plan.recipe, ledger, request.device, reporter, request.init, request.kernels
    )
    with sole_writer(
        request.out, RUN_LOCK, what="another deflow reproduce", next_step="choose another --out"
    ):
        return _go(request, plan, steps, bench)


def _go(
    request: ReproduceRequest, plan: ExperimentPlan, steps: Sequence[ExperimentStep], bench: Bench
) -> ReproduceReport:
    """Do what is left, and write the table."""
    ledger, reporter = bench.ledger, bench.reporter
    _warn_of_swapped(plan.layout, reporter)
    standings = {step.name: ledger.standing(step.name) for step in steps}
    left = [step for step in steps if standings[step.name].condition != "done"]
    if left:
        for line in missing_weights(plan):
            reporter.warn(f"not on this machine: {line}")
    if any(step.needs_features for step in left):
        require_features(plan.recipe.restorer.loss)
    failed = do_all(steps, bench)
    report = dataclasses.replace(_report(request, plan, steps, ledger, reporter), failed=failed)
    found = [
        dataclasses.replace(one, condition=standings[one.name].condition, why=standings[one.name].why)
        for one in report.steps
    ]
    report = dataclasses.replace(report, steps=tuple(found))
    if request.stage != "table":
        return report
    table = reproduced_table(plan, ledger)
    files = write_table(request.out, table, example_crops(plan, ledger, table))
    return dataclasses.replace(report, table=table, files=files)


def _is_left_out(method: Method, experiment: Experiment, layout: ChallengeLayout, reporter: Reporter) -> bool:
    """Whether a method lacks a folder that only some need, which is told."""
    roles = missing_roles(method, experiment.name, layout.parts.keys())
    for part in experiment.parts:
        if part.role in roles:
            names = " or ".join(part.names)
            reporter.warn(f"{method.name} is left out: it needs {part.what}, a folder {names}")
    return bool(roles)


def _holds_images(data: Path) -> bool:
    return data.is_dir() and any(data.iterdir())


def _plan(
    request: ReproduceRequest, experiment: Experiment, layout: ChallengeLayout, methods: Sequence[Method]
) -> ExperimentPlan:
    small = request.scale_down or request.miniature
    restores = not (experiment.name == "ablations" and small)
    init = ""
    if request.init is not None:
        if not request.init.is_file():
            raise CheckpointError(f"{request.init}: no such file", next_step="pass an ESRGAN file as --init")
        init = file_sha256(request.init)
    kernels = ""
    if request.kernels is not None:
        if not experiment.blurs:
            raise ConfigError(f"--kernels is nothing to {experiment.name}", next_step="leave it out")
        digests = " ".join(kernel.sha256 for kernel in load_kernels(request.kernels))
        kernels = hashlib.sha256(encoded(digests)).hexdigest()
    how = recipe(experiment, small=small, settings=request.settings, budget=0.0, trainings=1)
    plan = ExperimentPlan(
        experiment, layout, how, methods, request.seeds, small, init, kernels, restores=restores
    )
    if request.budget:
        trainings = plan.trainings
        plan.recipe = recipe(
            experiment, small=small, settings=request.settings, budget=request.budget, trainings=trainings
        )
    return plan


def _warn_of_swapped(layout: ChallengeLayout, reporter: Reporter) -> None:
    if "clean" in layout.parts:
        warning = warn_of_swapped_sides(layout.parts["clean"].images, layout.parts["noisy"].images)
        if warning:
            reporter.warn(warning)


def do_all(steps: Sequence[ExperimentStep], bench: Bench) -> tuple[FailedStep, ...]:
    """Do the steps in their order; where one of a method fails, the other methods go on.

    Raises the DeflowError of a step that all methods need, and the first one where nothing is left to go on.
    """
    errors: dict[str, DeflowError] = {}
    for number, step in enumerate(steps, start=1):
        lost = next((need for need in step.needs if need in errors), None)
        if lost is not None:
            errors[step.name] = errors[lost]
            continue
        try:
            _do(step, bench, f"step {number} of {len(steps)}")
        except DeflowError as error:
            if not step.method_of:
                raise
            bench.reporter.warn(f"{step.name} failed, and the other methods go on: {error}")
            errors[step.name] = error
    methods = {step.method_of for step in steps if step.method_of}
    if errors and methods == {step.method_of for step in steps if step.name in errors}:
        raise next(iter(errors.values()))
    found: dict[int, FailedStep] = {}
    for name, one in errors.items():
        found.setdefault(id(one), FailedStep(name, str(one), one.next_step))
    return tuple(found.values())


def _do(step: ExperimentStep, bench: Bench, place: str) -> None:
    """Do a step unless it is done, and say so."""
    ledger, reporter = bench.ledger, bench.reporter
    standing = ledger.standing(step.name)
    if standing.condition == "done":
        reporter.note(f"{place}: {step.what}: done before")
        return
    again = {
        "changed": f", done again: {standing.why}; what was there is kept in {ledger.kept(step.name)}",
        "interrupted": ", going on where it was interrupted",
    }.get(standing.condition, "")
    reporter.note(f"{place}: {step.what}{again}")
    ledger.begin(step.name)
    ledger.finish(step.name, step.run(bench))


def _report(
    request: ReproduceRequest,
    plan: ExperimentPlan,
    steps: Sequence[ExperimentStep],
    ledger: Ledger | None,
    reporter: Reporter,
) -> ReproduceReport:
    found = []
    for step in steps:
        assert ledger is not None
        standing = ledger.standing(step.name)
        done = standing.condition == "done"
        found.append(
            StepReport(
                step.name,
                step.stage,
                step.what,
                step.inputs,
                standing.condition,
                standing.why,
                done,
                step.cost,
            )
        )
    left = [one.cost for one in found if not one.done]
    return ReproduceReport(
        plan.experiment.name,
        plan.experiment.title,
        request.out,
        tuple(f"{part.role}: {part.text}" for part in plan.layout.parts.values()),
        plan.layout.missing,
        tuple(missing_weights(plan)),
        tuple(found),
        Cost(math.fsum(cost.seconds for cost in left), math.fsum(cost.bytes for cost in left)),
        HOW_SMALL if plan.small else HOW,
    )
