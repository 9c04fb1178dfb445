"""`deflow fit`: from two unpaired folders to one degradation model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deflow_cli.checkpoints.foreign import load_encoder, read_state_dict
from deflow_cli.checkpoints.format import save_model
from deflow_cli.config.fit import RunConfig
from deflow_cli.data.contents import contents_digest
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.errors import CheckpointError, memory_advice, naming
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.objective import Objective
from deflow_cli.paths import MODEL_FILE
from deflow_cli.presets.reader import FIT
from deflow_cli.runtime.device import choose_device, choose_precision
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.joining import joined_ranks
from deflow_cli.runtime.progress import Reporter, Silent
from deflow_cli.training.batches import BatchStream
from deflow_cli.training.domains import Domains
from deflow_cli.training.engine import Engine
from deflow_cli.training.loop import describe_ranks, run_training
from deflow_cli.training.network import full_precision
from deflow_cli.training.run_data import compare_data, renew_facts
from deflow_cli.training.run_folder import begin_folder, sole_trainer, training_facts
from deflow_cli.training.train_state import can_resume
from deflow_cli.workflows.fit.closed_form import ClosedForm, SampleSizes
from deflow_cli.workflows.fit.compression import compression_step
from deflow_cli.workflows.fit.data import StepBatch, choose_settings, open_domains, pair_contents, samplers
from deflow_cli.workflows.fit.grain_stage import GrainStage
from deflow_cli.workflows.fit.records import BITS_UNKNOWN, FitRecords
from deflow_cli.workflows.fit.step import BatchLoss, BatchObjective, LossStep, accelerate
from deflow_cli.workflows.kernels.clean_side import CleanSide, clean_side
from deflow_cli.workflows.report.run import report_of_fit

WrapObjective = Callable[[BatchObjective], BatchObjective]


def unchanged(objective: BatchObjective) -> BatchObjective:
    """The objective as it is."""
    return objective


@dataclass(frozen=True)
class FitRequest:
    """What `deflow fit` was asked to do. out: the run's folder. samples: as :class:`SampleSizes` has them.

    accepts_changed_data: a run that is resumed may go on with other data than it began with. kernels: a
    folder of blur kernels, by which the clean images are made small first (``workflows.kernels.clean_side``).
    """

    clean: Path
    noisy: Path
    out: Path
    config: RunConfig
    pairs: Path | None = None
    device: str = "auto"
    resume: bool = False
    accepts_changed_data: bool = False
    samples: SampleSizes = field(default_factory=SampleSizes)
    kernels: Path | None = None


@dataclass(frozen=True)
class FitResult:
    """What came of it. Bits per dimension are of held-out patches, with the training's dequantisation.

    report_path: the page about the model; None where ``fit.report`` is off or it could not be written.
    """

    run_dir: Path
    model_path: Path
    step: int
    interrupted: bool
    bits_per_dim_clean: float
    bits_per_dim_noisy: float
    seconds: float
    report_path: Path | None = None


def default_preset(device: str) -> str:
    """The preset for a machine: base with a GPU, tiny without."""
    return "base" if choose_device(device).type == "cuda" else "tiny"


def fit(
    request: FitRequest, reporter: Reporter | None = None, *, wrap_objective: WrapObjective = unchanged
) -> FitResult:
    """Fit a model. Raises DataError, ConfigError, CheckpointError or TrainingError with the next step.

    wrap_objective: takes the objective of a batch and returns the one to minimise, for instance with another
    term.

    Of several processes that torchrun started, each trains on its part of every batch; the request of the
    first one counts, and it alone writes files and reports. All return its result.
    """
    started = time.monotonic()
    with joined_ranks(request.device) as (ranks, device):
        listens = reporter if reporter is not None and ranks.is_main else Silent()
        request = ranks.on_main(lambda: request)
        return _fit(request, ranks, device, listens, started, wrap_objective)


@hears_remarks
@sole_trainer
@memory_advice("lower fit.batch_size or fit.patch_size, or use --memory low")
def _fit(
    request: FitRequest,
    ranks: Ranks,
    device: torch.device,
    reporter: Reporter,
    started: float,
    wrap_objective: WrapObjective,
) -> FitResult:
    resumes = ranks.on_main(lambda: request.resume and can_resume(request.out, reporter))
    with clean_side(request, request.config.fit.seed, reporter) as side:
        request = replace(request, clean=side.folder)
        domains = _open_alike(request, side, ranks, resumes, reporter)
        config, colour, facts = ranks.on_main(lambda: choose_settings(domains, request.config, reporter))
        model = DeFlow(config.model, seed=config.fit.seed)
        if config.fit.encoder_weights and not resumes and ranks.is_main:  # the others get them with the start
            _start_encoder(model, Path(config.fit.encoder_weights), reporter)
        if colour is not None:
            colour.give(model.statistics)
        model.to(device)
        model.set_net_precision(choose_precision(config.fit.precision, device))
        run = FitRun(request, config, domains, model, reporter, started, wrap_objective)
        # From here on it is a run: what is refused above leaves no trace.
        text, contents = FIT.to_toml(config), domains.contents
        places = {"clean": side.folder, "noisy": request.noisy, "pairs": request.pairs, **side.sources}
        ranks.on_main(lambda: begin_folder(request.out, text, contents, places, resumes))
    return run.go({**domains.facts, **facts}, resumes)


def _open_alike(
    request: FitRequest, side: CleanSide, ranks: Ranks, resumes: bool, reporter: Reporter
) -> Domains:
    """Open the data of a run. Raises DataError or ConfigError unless all ranks have it, and had it before."""
    domains = open_domains(side.folder, request.noisy, request.config, request.pairs is not None, reporter)
    side.tell(domains)
    contents = domains.contents
    if request.pairs is not None:
        contents["pairs"] = pair_contents(request.pairs)
    ranks.check_same(contents_digest(contents), "the images", "give all machines the same folders")
    if resumes:
        ranks.on_main(lambda: compare_data(request.out, contents, request.accepts_changed_data, reporter))
    return domains


def _start_encoder(model: DeFlow, path: Path, reporter: Reporter) -> None:
    """Start the encoder from an ESRGAN file. Raises CheckpointError naming it."""
    state = read_state_dict(path, reporter.note)
    with naming(path, CheckpointError):
        unused = load_encoder(model, state)
    reporter.note(f"encoder starts from {path} ({len(unused)} tensors unused)")


class FitRun:
    """One run: the model, its data and its records."""

    def __init__(
        self,
        request: FitRequest,
        config: RunConfig,
        domains: Domains,
        model: DeFlow,
        reporter: Reporter,
        started: float,
        wrap_objective: WrapObjective = unchanged,
    ) -> None:
        self.request, self.config, self.domains, self.model = request, config, domains, model
        self.reporter, self.ranks = reporter, Ranks.current()
        self.device = next(model.parameters()).device
        self.precision = choose_precision(config.fit.precision, self.device)
        accelerate(model, config.fit, self.device, reporter)
        made = samplers(domains, request.pairs, config, self.ranks)
        self.sampler = made.unpaired
        self.batches: BatchStream[StepBatch] = BatchStream(made.batch, made.unpaired_size, self.device)
        self.post_hoc = config.flow.shift == "post-hoc"
        self.renews = config.fit.shift_update == "moments" and not self.post_hoc
        if self.post_hoc or self.renews:
            model.prior.requires_grad_(False)
        objective = wrap_objective(Objective(model, config.fit.pair_share, config.fit.memory == "low"))
        loss = BatchLoss(model, config.fit, made, self.batches, objective, self.device)
        self.closed_form = ClosedForm(self.sampler, config, self.device)
        step = LossStep(
            model,
            config.fit,
            loss.inputs_of,
            loss.loss_of,
            before_recording=lambda: model.statistics.active,
        )
        pace = replace(config.fit, time_budget=config.training_time)
        self.engine = Engine([step.network], step, pace, request.out, reporter, started)
        self.records = FitRecords(domains, config, request.out, request.samples.held_out, self.device)
        self.bits = BITS_UNKNOWN

    @property
    def facts(self) -> dict[str, Any]:
        """What the run found out about its data and itself; a restore replaces it."""
        return self.engine.progress.facts

    def go(self, facts: dict[str, Any], resumes: bool) -> FitResult:
        """Train from the start, or from the state on disk, to the end; write the model."""
        fit = self.config.fit
        self._describe()
        self.engine.progress.facts = facts
        hooks = {
            "validate": (fit.validate_every, self.engine.hook_of_main(self.validate)),
            "preview": (fit.preview_every, self.engine.hook_of_main(self.preview)),
        }
        if self.renews:
            hooks = {"shift": (fit.moments_every, self.renew_shift), **hooks}
        finished = run_training(
            self.engine,
            self.batches,
            hooks,
            begin=None if resumes else self._start,
            resumed=lambda: renew_facts(self.facts, self.domains.facts),
        )
        for path, reason in self.ranks.gathered(self.sampler.dropped):
            self.reporter.warn(f"{path} left out: {reason}")
        return self.engine.on_main(lambda: self._finish(finished))

    def _describe(self) -> None:
        flow, fit = self.config.flow, self.config.fit
        count = sum(p.numel() for p in self.model.parameters())
        length = f"{fit.iterations} iterations" if fit.iterations else f"{fit.time_budget:.0f} s"
        self.reporter.note(
            f"model: {count / 1e6:.2f} M parameters, {flow.levels} levels x {flow.steps} steps, h = x / "
            f"{flow.downsample} + noise {flow.h_noise:g}, shift {flow.shift}"
        )
        self.reporter.note(
            f"training: {length}, batch {fit.batch_size} x {fit.patch_size} px, rate {fit.learning_rate:g}, "
            f"{'bf16 nets' if self.precision else 'fp32'} on {self.device}, seed {fit.seed}"
        )
        describe_ranks(self.ranks, fit.batch_size, self.device, self.reporter)

    def _start(self) -> None:
        """Initialise the model from data, before the first step."""
        self.reporter.start("start", None)
        clusters = self.closed_form.start(self.model, self.request.samples)
        if len(clusters) > 1:
            sizes = ", ".join(str(len(members)) for members in clusters)
            self.reporter.note(f"mixture starts from clusters of {sizes} noisy images")
        self.reporter.finish()

    def _finish(self, finished: bool) -> FitResult:
        """Write the averaged model, with a shift that fits it, and the page about it."""
        engine, out = self.engine, self.request.out
        progress, path = engine.progress, out / MODEL_FILE
        matched = None
        with self._averaged() as model:
            # A post-hoc shift is found only here, so an interrupted run needs it to be usable too.
            if self.post_hoc or (finished and self.renews):
                clusters = self.closed_form.match_moments(model, "last moments", self.request.samples.final)
                if len(clusters) > 1:
                    self.facts["components"] = self.records.draw_components(clusters)
            if finished or math.isnan(self.bits[0]):
                self.bits = self.records.measure(model)
            if finished and model.grain is not None:
                self.facts.update(self._match_grain(model))
                matched = {key: value.clone() for key, value in model.grain.state_dict().items()}
            facts = training_facts(self.facts, self.config, progress, self.bits, self.device)
            save_model(path, model, facts, title=out.resolve().name)
        if matched is not None and self.model.grain is not None:  # the averaged model was put away again
            self.model.grain.load_state_dict(matched)
        self.preview(progress.step)
        page = None
        if self.config.fit.report:
            folders = (self.request.clean, self.request.noisy)
            seconds = progress.seconds if finished else 0.0  # who interrupts a run wants it to end now
            page = report_of_fit(out, self.domains, folders, seconds, self.device, self.reporter)
        return FitResult(out, path, progress.step, not finished, *self.bits, progress.seconds, page)

    def _match_grain(self, model: DeFlow) -> dict[str, Any]:
        """Match the noise to the noisy images; the facts to keep."""
        fit = self.config.fit
        seconds = math.inf if fit.iterations else max(0.0, fit.time_budget - self.engine.progress.seconds)
        finish = compression_step(self.facts, fit.seed)
        return GrainStage(model, self.domains, fit.seed, self.reporter, finish).run(seconds)

    @contextmanager
    def _averaged(self) -> Iterator[DeFlow]:
        """The model as it will be used: averaged weights, evaluation mode, nets in full precision.

        Whatever happens to its weights inside, the training goes on from those it had before.
        """
        with self.engine.state.averaged_model(), full_precision(self.model, self.precision):
            yield self.model

    def renew_shift(self, step: int) -> None:
        """Set mu and M by the closed form for the present flow, in the averages too.

        Averaging M over renewals would be wrong: a root of a covariance is known only up to signs.
        """

        def moments() -> dict[str, Tensor]:
            self.closed_form.match_moments(self.model, f"moments {step}", self.request.samples.moments)
            return {key: value.cpu() for key, value in self.model.prior.state_dict().items()}

        shift, average = self.engine.on_main(moments), self.engine.state.average
        if not self.ranks.is_main:
            self.model.prior.load_state_dict(shift)
        if average is not None:
            for key, value in self.model.prior.state_dict().items():
                average[f"prior.{key}"].copy_(value)

    def validate(self, step: int) -> None:
        """Write held-out bits per dimension of both domains and the shift's spectrum into the log."""
        with self._averaged() as model:
            self.bits = self.records.measure(model)
            self.engine.log.write(self.records.validation_row(step, model, self.bits))

    def preview(self, step: int) -> None:
        """Draw samples of the averaged model."""
        with self._averaged() as model:
            self.records.draw_preview(step, model)
