"""`deflow fit --method`: from two unpaired folders to a network that degrades, by one of the baselines."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deflow_cli.checkpoints.translation.files import save_translator
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.errors import memory_advice
from deflow_cli.paths import MODEL_FILE
from deflow_cli.presets.methods import FitMethod
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.progress import Reporter, Silent
from deflow_cli.training.batches import BatchStream
from deflow_cli.training.domains import Domains, open_folders
from deflow_cli.training.engine import Engine
from deflow_cli.training.loop import run_training
from deflow_cli.training.run_data import compare_data, renew_facts
from deflow_cli.training.run_folder import begin_folder, environment_facts, sole_trainer
from deflow_cli.training.train_state import can_resume
from deflow_cli.workflows.kernels.clean_side import clean_side
from deflow_cli.workflows.report.translation import page_of_translation
from deflow_cli.workflows.translation.data import TranslationBatch, TranslationSampler
from deflow_cli.workflows.translation.records import TranslationRecords
from deflow_cli.workflows.translation.trainer import TranslationRunConfig, TranslationTrainer, trainer_class


@dataclass(frozen=True)
class TranslationRequest:
    """What `deflow fit --method` was asked to do. config: of the method. out: the run's folder.

    accepts_changed_data: a run that is resumed may go on with other data than it began with. kernels: a
    folder of blur kernels, by which the clean images are made small first (``workflows.kernels.clean_side``).
    """

    method: FitMethod
    clean: Path
    noisy: Path
    out: Path
    config: TranslationRunConfig
    device: str = "auto"
    resume: bool = False
    accepts_changed_data: bool = False
    kernels: Path | None = None


@dataclass(frozen=True)
class TranslationResult:
    """What came of it. figures: of held-out crops at the end, as the log has them.

    report_path: the page about the model; None where ``fit.report`` is off or it could not be written.
    """

    run_dir: Path
    model_path: Path
    method: str
    step: int
    interrupted: bool
    seconds: float
    figures: dict[str, float] = field(default_factory=dict)
    report_path: Path | None = None


@hears_remarks
@sole_trainer
@memory_advice("lower fit.batch_size")
def fit_translation(request: TranslationRequest, reporter: Reporter | None = None) -> TranslationResult:
    """Train a network. Raises DataError, ConfigError, CheckpointError or TrainingError with the next step."""
    started = time.monotonic()
    reporter = reporter or Silent()
    device = choose_device(request.device)
    resumes = request.resume and can_resume(request.out, reporter)
    config = request.config
    kind = trainer_class(request.method)
    least = kind.recipe.least_sides(config.translation)
    with clean_side(request, config.fit.seed, reporter) as side:
        request = dataclasses.replace(request, clean=side.folder)
        domains = open_folders((side.folder, request.noisy), least, config.fit, reporter)
        side.tell(domains)
        if resumes:
            compare_data(request.out, domains.contents, request.accepts_changed_data, reporter)
        trainer = kind.build(config, device, reporter)
        run = TranslationRun(request, trainer, domains, reporter, started)
        # From here on it is a run: what is refused above leaves no trace.
        text = request.method.presets.to_toml(config)
        places = {"clean": side.folder, "noisy": request.noisy, **side.sources}
        begin_folder(request.out, text, domains.contents, places, resumes)
    return run.go(resumes)


class TranslationRun:
    """One run: its networks, data and records. What must outlive a kill stands in the engine's facts."""

    def __init__(
        self,
        request: TranslationRequest,
        trainer: TranslationTrainer,
        domains: Domains,
        reporter: Reporter,
        started: float,
    ) -> None:
        self.request, self.trainer, self.domains, self.reporter = request, trainer, domains, reporter
        fit, section = request.config.fit, request.config.translation
        self.fit, self.section, self.device = fit, section, trainer.device
        self.sampler = TranslationSampler(
            domains.clean, domains.noisy, trainer.recipe, section, flips=fit.flips, seed=fit.seed
        )
        self.batches: BatchStream[TranslationBatch] = BatchStream(
            self.sampler.batch, fit.batch_size, self.device
        )
        trainer.batch_of = self._batch
        self.records = TranslationRecords(domains, trainer, section, fit.seed, request.out)
        self.engine = Engine(
            trainer.networks,
            trainer,
            fit,
            request.out,
            reporter,
            started,
            divergence_hint="lower fit.learning_rate",
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What the run found out about its data and itself; a restore replaces it."""
        return self.engine.progress.facts

    def go(self, resumes: bool) -> TranslationResult:
        """Train from the start, or from the state on disk, to the end; write the model."""
        fit = self.fit
        self._describe()
        self.engine.progress.facts = dict(self.domains.facts)
        hooks = {
            "validate": (fit.validate_every, self.validate),
            "preview": (fit.preview_every, self.preview),
        }
        finished = run_training(
            self.engine,
            self.batches,
            hooks,
            begin=None if resumes else lambda: None,
            resumed=lambda: renew_facts(self.facts, self.domains.facts),
        )
        for path, reason in self.sampler.dropped:
            self.reporter.warn(f"{path} left out: {reason}")
        return self._finish(finished)

    def _describe(self) -> None:
        fit, section = self.fit, self.section
        count = sum(p.numel() for p in self.trainer.generator.parameters())
        length = f"{fit.iterations} iterations" if fit.iterations else f"{fit.time_budget:.0f} s"
        self.reporter.note(f"model: {self.trainer.name}, a generator of {count / 1e6:.3g} M parameters")
        self.reporter.note(
            f"training: {length}, batch {fit.batch_size} x {section.patch_size} px, rate "
            f"{fit.learning_rate:g}, fp32 on {self.device}, seed {fit.seed}"
        )

    def _batch(self, step: int) -> TranslationBatch:
        # a batch in page-locked memory comes as a plain tuple
        return TranslationBatch(*self.batches.of_step(step)).on(self.device)

    def _finish(self, finished: bool) -> TranslationResult:
        progress, path = self.engine.progress, self.request.out / MODEL_FILE
        with self.engine.state.averaged_model():
            figures = self.records.measure()
            self._save(path, figures)
        self.preview(progress.step)
        page = None
        if self.fit.report and finished:  # who interrupts a run wants it to end now
            request = self.request
            folders = (request.clean, request.noisy)
            page = page_of_translation(request.out, self.domains, folders, self.device, self.reporter)
        return TranslationResult(
            self.request.out,
            path,
            self.trainer.name,
            progress.step,
            not finished,
            progress.seconds,
            figures,
            page,
        )

    def _save(self, path: Path, figures: dict[str, float]) -> None:
        progress = self.engine.progress
        facts = {
            **self.facts,
            **self.trainer.facts,
            "title": self.request.out.resolve().name,
            "step": progress.step,
            "seconds": round(progress.seconds, 1),
            "skipped_steps": progress.bad_total,
            "held_out": {name: round(value, 6) for name, value in figures.items()},
            **environment_facts(self.device),
            "config": self.request.method.presets.to_toml(self._public()),
        }
        save_translator(path, self.trainer.generator, self.trainer.name, facts)

    def _public(self) -> TranslationRunConfig:
        """The configuration without this machine's paths, which a model file must not tell."""
        config: Any = self.request.config
        named = {each.name for each in dataclasses.fields(self.section)}
        if "features_file" not in named:
            return self.request.config
        section: Any = self.section
        public = dataclasses.replace(section, features_file=Path(section.features_file).name)
        replaced: TranslationRunConfig = dataclasses.replace(config, **{section.section: public})
        return replaced

    def validate(self, step: int) -> None:
        """Figures of held-out crops into the log."""
        with self.engine.state.averaged_model():
            figures = self.records.measure()
        row = {f"held_out_{name}": round(value, 6) for name, value in figures.items()}
        self.engine.log.write({"step": step, **row})

    def preview(self, step: int) -> None:
        """A picture of held-out crops and their degradations."""
        with self.engine.state.averaged_model():
            self.records.draw_preview(step)
