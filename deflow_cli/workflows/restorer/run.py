"""`deflow sr-train`: from pairs, or clean pictures and a degrader, to a restorer."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from deflow_cli.checkpoints.registry import local_copy
from deflow_cli.checkpoints.restorer import save_restorer
from deflow_cli.config.restorer import SrConfig
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import ConfigError, memory_advice
from deflow_cli.metrics.base import Metric
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.paths import RESTORER_FILE
from deflow_cli.presets.reader import SR
from deflow_cli.runtime.compiling import can_compile
from deflow_cli.runtime.device import choose_device, choose_precision
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.joining import joined_ranks
from deflow_cli.runtime.progress import Reporter, Silent
from deflow_cli.training.engine import Engine, Turn
from deflow_cli.training.loop import run_training
from deflow_cli.training.run_folder import environment_facts, sole_trainer
from deflow_cli.training.train_state import can_resume
from deflow_cli.workflows.restorer.batches import RestorerBatches
from deflow_cli.workflows.restorer.data import SrData, SrSource, open_data
from deflow_cli.workflows.restorer.divergence import DivergenceMonitor
from deflow_cli.workflows.restorer.networks import (
    load_features,
    new_discriminator,
    new_generator,
    start_from,
    with_sizes_of,
)
from deflow_cli.workflows.restorer.request import SrRequest, SrResult, StagePace, kept_restorer, open_alike
from deflow_cli.workflows.restorer.staged_run import StagedRun
from deflow_cli.workflows.restorer.step import RestorerStep
from deflow_cli.workflows.restorer.validation import Validation, choose_scorers, is_better

__all__ = ["DegraderChoice", "SrRequest", "SrResult", "SrSource", "default_preset", "sr_train"]

PSNR_FILE = "restorer-psnr.safetensors"  # where the second of two stages began


def default_preset(device: str) -> str:
    """The preset for a machine: fast with a GPU, tiny without."""
    return "fast" if choose_device(device).type == "cuda" else "tiny"


def sr_train(request: SrRequest, reporter: Reporter | None = None) -> SrResult:
    """Train a restorer. Raises DataError, ConfigError, CheckpointError or TrainingError.

    Of several processes that torchrun started, each trains on its part of every batch; the request of the
    first one counts, and it alone writes files and reports. All return its result.
    """
    started = time.monotonic()
    with joined_ranks(request.device) as (ranks, device):
        listens = reporter if reporter is not None and ranks.is_main else Silent()
        request = ranks.on_main(lambda: request)
        return _sr_train(request, ranks, device, listens, started)


@hears_remarks
@sole_trainer
@memory_advice("lower sr.batch_size or sr.gt_size")
def _sr_train(
    request: SrRequest, ranks: Ranks, device: torch.device, reporter: Reporter, started: float
) -> SrResult:
    resumes = ranks.on_main(lambda: request.resume and can_resume(request.out, reporter, RESTORER_FILE))
    ranks.check_parts("sr.batch_size", request.config.sr.batch_size)
    data = open_data(request.source, request.config.sr, device, reporter)
    open_alike(data, request, resumes, reporter)
    config = _settle(request, data.scale)
    if request.init is not None and not resumes:
        init = request.init
        model = ranks.on_main(
            lambda: start_from(local_copy(init, RESTORER_FILE).path, data.scale, request.arch, reporter)
        )
        config = with_sizes_of(config, model)
    else:
        model = new_generator(config)
    run = RestorerRun(request, config, data, model.to(device), reporter, started)
    source = request.source
    places = {"pairs": source.pairs, "val": source.val, "hr": source.hr, "init": request.init}
    run.engine.on_main(lambda: run.begin_folder(SR.to_toml(config), places, resumes))
    return run.go(resumes)


def _settle(request: SrRequest, scale: int) -> SrConfig:
    """The configuration with what the pairs and the request decide."""
    config = request.config
    stage = config.sr.stage
    if stage == "auto":
        stage = "gan" if request.init is not None else "both"
    if stage == "gan" and request.init is None and not request.resume:
        raise ConfigError(
            "the GAN stage needs a restorer to start from",
            next_step="pass --init FILE, or --stage both to train one first",
        )
    return dataclasses.replace(
        config,
        restorer=dataclasses.replace(config.restorer, scale=scale),
        sr=dataclasses.replace(config.sr, stage=stage),
    )


class RestorerRun(StagedRun):
    """One run of an ESRGAN: L1 alone, the GAN, or one after the other."""

    last_began = "gan_from"
    request: SrRequest
    config: SrConfig
    select: Metric

    def __init__(
        self,
        request: SrRequest,
        config: SrConfig,
        data: SrData,
        model: RRDBNet,
        reporter: Reporter,
        started: float,
    ) -> None:
        self.request, self.config, self.data, self.model = request, config, data, model
        self.reporter = reporter
        self.device = next(model.parameters()).device
        precision = choose_precision(config.sr.precision, self.device)
        if config.sr.compile == "yes" and can_compile(self.device, reporter):
            model.trunk_together = model.compiled = True
        features = load_features(config, self.device, reporter)
        judge = new_discriminator(config)
        if judge is not None:
            judge.to(self.device)
        scorers, self.select = choose_scorers(config.sr.select, self.device, reporter, config.sr.lpips_file)
        self.validation = Validation(data.held_out, scorers, self.device, precision)
        self.batches = RestorerBatches(data, config.sr.batch_size, self.device, reporter)
        self.step = RestorerStep(model, judge, features, config, self.batches.of_step, self.moment, precision)
        self.monitor = DivergenceMonitor(
            self._monitored,
            config.sr.psnr_drop,
            reporter,
            self._weights_to_go_back_to,
            lambda: self.facts.get("input_drift", ()),
        )
        self.engine = Engine(
            self.step.networks,
            self.step,
            StagePace.of(config),
            request.out,
            reporter,
            started,
            section="sr",
            divergence_hint="lower psnr.learning_rate and gan.learning_rate, or set sr.clip_gradients=1",
            turn=Turn(self._gan_begins, self._begin_gan),
            on_row=self.monitor.on_row,
        )

    # -- the story ------------------------------------------------------------------------------------

    def look(self) -> None:
        """A first look at what is trained and validated on: the facts of a run that begins.

        Raises DataError where no pair is large enough, or a metric fits none.
        """
        self.data.crops.batch(0, self.config.sr.batch_size)
        given = self.validation.measure_input()
        self.engine.progress.facts = {
            **self.data.facts,
            "select": self.select.name,
            "perceptual": "none" if self.step.features is None else self.config.loss.features,
            "init": None if self.request.init is None else self.request.init.name,
            "input": given.scores,
            "input_drift": list(given.drift),
        }
        if self.request.init is not None:
            with self._averaged() as model:
                self.monitor.begin_stage(self.validation.measure(model).scores["psnr"])

    def go(self, resumes: bool) -> SrResult:
        """Train from the start, or from the state on disk, to the end; write best and last."""
        self._describe()
        hooks, keep_at = self.hooks(), self.config.sr.keep_at
        if keep_at:
            hooks["keep"] = (math.gcd(*keep_at), self.engine.hook_of_main(self.keep))

        def resumed() -> None:
            self.compare_data()
            self._report_input()

        begin = None if resumes else self._report_input
        finished = run_training(self.engine, self.batches.stream, hooks, begin=begin, resumed=resumed)
        self.batches.report_of_all_ranks()
        return self.engine.on_main(lambda: self.finish(finished))

    def _report_input(self) -> None:
        self.reporter.note(f"held-out input: {_shown(self.facts['input'])}")

    def _describe(self) -> None:
        restorer = self.config.restorer
        count = sum(p.numel() for p in self.engine.state.model.parameters())
        self.reporter.note(
            f"model: RRDBNet x{restorer.scale}, {restorer.channels} features, {restorer.blocks} blocks, "
            f"{count / 1e6:.2f} M parameters"
        )
        self.describe_training("bf16 nets" if self.step.precision else "fp32")

    # -- stages ---------------------------------------------------------------------------------------

    @property
    def first_share(self) -> float:
        return self.config.sr.psnr_share

    def _gan_begins(self, step: int, share: float) -> bool:
        if self.config.sr.stage != "both" or self.in_last_stage:
            return False
        if self.config.sr.time_budget:
            return step > 0 and share >= self.config.sr.psnr_share
        return step >= self.config.psnr.iterations

    def _begin_gan(self, step: int, share: float) -> None:
        """The second stage starts from the first one's averaged weights, with new optimisers."""
        self.engine.on_main(lambda: self._end_psnr(step))
        state = self.engine.state
        if state.average is not None:
            state.model.load_state_dict(state.average)
        self.step.forget()
        self.facts["gan_from"] = [step, share]
        self.facts.pop("best", None)  # another stage, another best: its losses are not the first one's
        self.monitor.begin_stage(self.facts["last_scores"]["psnr"] if step else None)
        self.engine.save()  # with the validation that ended the first stage: a resumed run has it once
        self.reporter.note(
            f"the GAN stage begins at step {step}; {PSNR_FILE} keeps the first stage's weights"
        )

    def _end_psnr(self, step: int) -> None:
        if step and self.facts.get("validated") != step:
            self.validate(step)
        self.save(self.request.out / PSNR_FILE, step, self.facts.get("last_scores", {}))

    # -- records --------------------------------------------------------------------------------------

    @contextmanager
    def _averaged(self) -> Iterator[RRDBNet]:
        """The generator as it will be used: with averaged weights, in evaluation mode."""
        with self.engine.state.averaged_model():
            yield self.model

    def validate(self, step: int) -> None:
        """Held-out scores into the log; keeps the weights where they are the best so far."""
        with self._averaged() as model:
            measured = self.validation.measure(model)
        self.book(step, measured)
        self.monitor.on_validation(step, measured)
        self.log_validation(step, measured)

    def is_better(self, value: float, best: float) -> bool:
        return is_better(self.select, value, best)

    def keep(self, step: int) -> None:
        """Keep the weights of a step that ``sr.keep_at`` names, with their scores where it was validated."""
        if step in self.config.sr.keep_at:
            scores = self.facts["last_scores"] if self.facts.get("validated") == step else {}
            self.save(kept_restorer(self.request.out, step), step, scores)

    def preview(self, step: int) -> None:
        """A grid of degraded, restored and clean middles."""
        path = self.request.out / "previews" / f"{step:07d}.png"
        with self._averaged() as model:
            self.validation.preview(path, model)

    def _monitored(self) -> dict[str, Any]:
        memory: dict[str, Any] = self.facts.setdefault("watch", {})
        return memory

    def _weights_to_go_back_to(self, step: int) -> str:
        """What to go on from: the stage's best weights, or what it began with where those are as bad."""
        best, psnr = self.facts.get("best"), self._monitored().get("psnr", 0.0)
        if best and best["step"] < step and not self.monitor.is_fallen(best["scores"]["psnr"], psnr):
            path = self.request.out / RESTORER_FILE
            return f"The weights of step {best['step']} are in {path}: go back to them with --init"
        rate = f"{'gan' if 'gan_from' in self.facts else self.config.stages[0]}.learning_rate"
        if self.in_last_stage:
            path, at = self.request.out / PSNR_FILE, self.facts["gan_from"][0]
            return f"The weights of step {at} are in {path}: go back to them with --init, at a lower {rate}"
        if self.request.init is not None:
            return f"Go back to {self.request.init}, at a lower {rate}"
        return f"No better weights are kept yet: if it stays so, begin anew at a lower {rate}"

    def save(self, path: Path, step: int, scores: Mapping[str, float]) -> None:
        config, progress = self.config, self.engine.progress
        public = dataclasses.replace(
            config,
            loss=dataclasses.replace(config.loss, features_file=_file_name(config.loss.features_file)),
            sr=dataclasses.replace(config.sr, lpips_file=_file_name(config.sr.lpips_file)),
        )
        private = ("watch", "best", "last_scores", "validated", "input_drift")
        facts = {key: value for key, value in self.facts.items() if key not in private}
        facts |= {
            "title": self.request.out.resolve().name,
            "step": step,
            "stage": "gan" if "gan_from" in facts else config.stages[0],
            "scores": scores,
            "skipped_steps": progress.bad_total,
            **environment_facts(self.device),
            "config": SR.to_toml(public),
        }
        with self._averaged() as model:
            save_restorer(path, model, facts)


def _file_name(path: str) -> str:
    return Path(path).name if path else ""


def _shown(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
