"""Staged run: what the trainings of restorers of every kind do alike, in one stage or two."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from deflow_cli.paths import LAST_RESTORER_FILE, RESTORER_FILE
from deflow_cli.runtime.progress import Reporter
from deflow_cli.training.engine import Engine
from deflow_cli.training.loop import describe_ranks
from deflow_cli.training.run_data import compare_facts
from deflow_cli.training.run_folder import begin_folder
from deflow_cli.workflows.restorer.batches import RestorerBatches
from deflow_cli.workflows.restorer.data import SrData
from deflow_cli.workflows.restorer.request import SrResult, StagedConfig, TrainingRequest
from deflow_cli.workflows.restorer.step import Moment
from deflow_cli.workflows.restorer.validation import Measured


class Chooses(Protocol):
    """What chooses the best weights: a metric, or another figure."""

    @property
    def name(self) -> str: ...


class StagedRun(ABC):
    """One run: its data and records. What must outlive a kill stands in the engine's facts.

    last_began: the fact that says when the last stage began, a step and a share of the run.
    """

    last_began: ClassVar[str]

    request: TrainingRequest
    config: StagedConfig
    data: SrData
    reporter: Reporter
    device: torch.device
    engine: Engine
    batches: RestorerBatches
    select: Chooses

    # -- what each kind has ---------------------------------------------------------------------------

    @property
    @abstractmethod
    def first_share(self) -> float:
        """Share of a time budget for the first of two stages."""

    @abstractmethod
    def look(self) -> None:
        """A first look at what is trained and validated on: the facts of a run that begins."""

    @abstractmethod
    def is_better(self, value: float, best: float) -> bool:
        """Whether a value of what chooses is better than another."""

    @abstractmethod
    def validate(self, step: int) -> None:
        """Measure on held-out pairs, where the stage has something to measure."""

    @abstractmethod
    def preview(self, step: int) -> None:
        """Write a grid of pictures, where the stage has some to show."""

    @abstractmethod
    def save(self, path: Path, step: int, scores: Mapping[str, float]) -> None:
        """Write the averaged weights as a model file."""

    # -- what all do alike ----------------------------------------------------------------------------

    @property
    def facts(self) -> dict[str, Any]:
        """Those of the engine's progress, which a restore replaces."""
        return self.engine.progress.facts

    @property
    def in_last_stage(self) -> bool:
        return self.last_began in self.facts

    def begin_folder(self, config_text: str, places: Mapping[str, Path | None], resumes: bool) -> None:
        """Look at the data, and make the folder that of a run. What was refused before has left no trace.

        places: the folders and files as given, for ``run.json``; the model file must not tell the machine's
        paths.
        """
        if not resumes:
            self.look()
        begin_folder(self.request.out, config_text, self.data.contents, places, resumes)

    def compare_data(self) -> None:
        """Refuse to resume with other data than the run began with, a degrader for instance, or tell it."""
        request = self.request
        compare_facts(request.out, self.facts, self.data.facts, request.accepts_changed_data, self.reporter)

    def hooks(self) -> dict[str, tuple[int, Callable[[int], None]]]:
        """Validation and previews, which the main rank does."""
        sr, on_main = self.config.sr, self.engine.hook_of_main
        return {
            "validate": (sr.validate_every, on_main(self.validate)),
            "preview": (sr.preview_every, on_main(self.preview)),
        }

    def describe_training(self, precision: str) -> None:
        """Say how long, on what and in how many processes is trained."""
        sr = self.config.sr
        stages = [
            f"{name} ({getattr(self.config, name).iterations} steps)" if not sr.time_budget else name
            for name in self.config.stages
        ]
        length = f", {sr.time_budget:.0f} s" if sr.time_budget else ""
        self.reporter.note(
            f"training: {' then '.join(stages)}{length}, batch {sr.batch_size} x {sr.gt_size} px, "
            f"{precision} on {self.device}, seed {sr.seed}"
        )
        describe_ranks(self.data.ranks, sr.batch_size, self.device, self.reporter)

    def moment(self, step: int, share: float) -> Moment:
        """The stage of a step, the step within it, and the share of it that is done."""
        stages = self.config.stages
        stage = stages[-1] if self.in_last_stage else stages[0]
        first, begun = self.facts.get(self.last_began, (0, 0.0))
        if not self.config.sr.time_budget:
            length = getattr(self.config, stage).iterations
            return Moment(stage, step - first + 1, (step - first) / length)
        end = 1.0 if stage == stages[-1] else self.first_share
        return Moment(stage, step - first + 1, (share - begun) / max(end - begun, 1e-9))

    def book(self, step: int, measured: Measured) -> None:
        """Keep the weights where their held-out scores are the best so far."""
        value, best = measured.scores[self.select.name], self.facts.get("best")
        self.facts.update(validated=step, last_scores=measured.scores)
        if best is None or self.is_better(value, best["scores"][self.select.name]):
            self.save(self.request.out / RESTORER_FILE, step, measured.scores)
            self.facts["best"] = {"step": step, "scores": measured.scores}

    def log_validation(self, step: int, measured: Measured) -> None:
        """A line of held-out scores in the log."""
        held = {f"held_out_{name}": round(value, 6) for name, value in measured.scores.items()}
        drift = {f"drift_{c}": round(v, 6) for c, v in zip("rgb", measured.drift, strict=True)}
        self.engine.log.write({"step": step, **held, **drift, "best_step": self.facts["best"]["step"]})

    def finish(self, finished: bool, validates: bool = True) -> SrResult:
        """Validate the last step, where that means something, write the files, and say what came of it."""
        engine, out = self.engine, self.request.out
        step = engine.progress.step
        if finished and validates and self.facts.get("validated") != step:
            self.validate(step)
            engine.save()  # what it found belongs to the finished run
        best, model, last = self.facts.get("best"), out / RESTORER_FILE, out / LAST_RESTORER_FILE
        scores = best["scores"] if best else {}
        self.save(last, step, self.facts.get("last_scores", {}))
        if best is None:  # interrupted before the stage's first validation
            self.save(model, step, scores)
        self.preview(step)
        return SrResult(
            run_dir=out,
            model_path=model,
            last_path=last,
            step=step,
            best_step=best["step"] if best else step,
            interrupted=not finished,
            select=self.select.name,
            scores=scores,
            input_scores=self.facts["input"],
            seconds=engine.progress.seconds,
        )
