"""`deflow sr-train --arch srflow`: from pairs, or clean pictures and a degrader, to an SRFlow."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from deflow_cli.checkpoints.foreign import load_encoder, read_state_dict
from deflow_cli.checkpoints.registry import local_copy
from deflow_cli.checkpoints.srflow.files import save_srflow
from deflow_cli.config.srflow import SRFlowRunConfig
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import CheckpointError, memory_advice, naming
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.models.srflow.objective import SAMPLED_EVERY, dequantised
from deflow_cli.models.srflow.pretraining import RestorerHead, new_head
from deflow_cli.paths import RESTORER_FILE
from deflow_cli.presets.reader import SRFLOW
from deflow_cli.runtime.compiling import can_compile
from deflow_cli.runtime.device import choose_device, choose_precision
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.joining import joined_ranks
from deflow_cli.runtime.progress import Reporter, Silent
from deflow_cli.runtime.seeding import derived_seed, generator
from deflow_cli.training.engine import Engine, Turn
from deflow_cli.training.loop import run_training
from deflow_cli.training.network import full_precision
from deflow_cli.training.run_folder import environment_facts, sole_trainer
from deflow_cli.training.train_state import can_resume
from deflow_cli.workflows.restorer.batches import RestorerBatches
from deflow_cli.workflows.restorer.data import SrData, SrSource, open_data
from deflow_cli.workflows.restorer.request import SrResult, StagePace, open_alike
from deflow_cli.workflows.restorer.srflow.step import SRFlowStep
from deflow_cli.workflows.restorer.srflow.validation import Selection, SpaceValidation, choose_space_scorers
from deflow_cli.workflows.restorer.staged_run import StagedRun

__all__ = ["DegraderChoice", "SRFlowRequest", "SrResult", "SrSource", "default_srflow_preset", "train_srflow"]

START_CROPS = 32  # at least, that the ActNorms are started from


@dataclass(frozen=True)
class SRFlowRequest:
    """What `deflow sr-train --arch srflow` was asked to do. out: the run's folder.

    encoder: weights to start the encoder from, an ESRGAN file of any dialect; None: at random.
    accepts_changed_data: a run that is resumed may go on with other data than it began with.
    """

    source: SrSource
    out: Path
    config: SRFlowRunConfig
    encoder: Path | None = None
    device: str = "auto"
    resume: bool = False
    accepts_changed_data: bool = False


def default_srflow_preset(device: str) -> str:
    """The preset for a machine: base with a GPU, tiny without."""
    return "base" if choose_device(device).type == "cuda" else "tiny"


def train_srflow(request: SRFlowRequest, reporter: Reporter | None = None) -> SrResult:
    """Train an SRFlow. Raises DataError, ConfigError, CheckpointError or TrainingError.

    Of several processes that torchrun started, each trains on its part of every batch; the request of the
    first one counts, and it alone writes files and reports. All return its result.
    """
    started = time.monotonic()
    with joined_ranks(request.device) as (ranks, device):
        listens = reporter if reporter is not None and ranks.is_main else Silent()
        request = ranks.on_main(lambda: request)
        return _train_srflow(request, ranks, device, listens, started)


@hears_remarks
@sole_trainer
@memory_advice("lower sr.batch_size or sr.gt_size, or set sr.memory=low")
def _train_srflow(
    request: SRFlowRequest, ranks: Ranks, device: torch.device, reporter: Reporter, started: float
) -> SrResult:
    resumes = ranks.on_main(lambda: request.resume and can_resume(request.out, reporter, RESTORER_FILE))
    flow = request.config.flow
    unit = SAMPLED_EVERY if flow.texture or flow.consistency else 1
    ranks.check_parts("sr.batch_size", request.config.sr.batch_size, unit if ranks.size > 1 else 1)
    data = open_data(request.source, request.config.sr, device, reporter)
    open_alike(data, request, resumes, reporter)
    srflow = dataclasses.replace(request.config.srflow, scale=data.scale)
    config = dataclasses.replace(request.config, srflow=srflow)
    model = SRFlow(config.model, derived_seed(config.sr.seed, "srflow"))
    if request.encoder is not None and not resumes and ranks.is_main:  # the others get its weights
        _start_encoder(model, local_copy(request.encoder, RESTORER_FILE).path, reporter)
    run = SRFlowRun(request, config, data, model.to(device), reporter, started)
    source = request.source
    places = {"pairs": source.pairs, "val": source.val, "hr": source.hr, "init": request.encoder}
    run.engine.on_main(lambda: run.begin_folder(SRFLOW.to_toml(config), places, resumes))
    return run.go(resumes)


def _start_encoder(model: SRFlow, path: Path, reporter: Reporter) -> None:
    state = read_state_dict(path, reporter.note)
    with naming(path, CheckpointError):
        unused = load_encoder(model, state)
    dropped = f"; not used: {', '.join(unused)}" if unused else ""
    reporter.note(f"the encoder starts from {path}{dropped}")


class SRFlowRun(StagedRun):
    """One run of an SRFlow: its encoder alone, then the flow, or the flow at once."""

    last_began = "flow_from"
    request: SRFlowRequest
    config: SRFlowRunConfig
    select: Selection

    def __init__(
        self,
        request: SRFlowRequest,
        config: SRFlowRunConfig,
        data: SrData,
        model: SRFlow,
        reporter: Reporter,
        started: float,
    ) -> None:
        self.request, self.config, self.data, self.model = request, config, data, model
        self.reporter = reporter
        self.device = next(model.parameters()).device
        self.precision = choose_precision(config.sr.precision, self.device)
        model.set_net_precision(self.precision)
        compiled = config.sr.compile == "yes" and can_compile(self.device, reporter)
        if compiled or self.device.type == "cuda":
            model.train_in_runs(compiled=compiled)
        head: RestorerHead | None = None
        if "pretrain" in config.stages:
            head = new_head(model, generator(config.sr.seed, "head")).to(self.device)
        scorers, self.select = choose_space_scorers(
            config.sr.select, self.device, reporter, config.sr.lpips_file
        )
        self.validation = SpaceValidation(data.held_out, scorers, model, config.sr.temperature)
        self.batches = RestorerBatches(data, config.sr.batch_size, self.device, reporter)
        self.step = SRFlowStep(model, head, config, self.batches.of_step, self.moment)
        self.engine = Engine(
            self.step.networks,
            self.step,
            StagePace.of(config),
            request.out,
            reporter,
            started,
            section="sr",
            divergence_hint="lower flow.learning_rate, or set srflow.affine=bounded",
            turn=Turn(self._flow_begins, self._begin_flow),
        )

    # -- the story ------------------------------------------------------------------------------------

    def look(self) -> None:
        """A first look at the data: the facts of a run that begins. Raises DataError where no pair fits."""
        self.data.crops.batch(0, self.config.sr.batch_size)
        self.engine.progress.facts = {
            **self.data.facts,
            "select": self.select.name,
            "init": None if self.request.encoder is None else self.request.encoder.name,
            "input": self.validation.measure_input().scores,
        }

    def go(self, resumes: bool) -> SrResult:
        """Train from the start, or from the state on disk, to the end; write best and last."""
        self._describe()
        finished = run_training(
            self.engine,
            self.batches.stream,
            self.hooks(),
            begin=None if resumes else self._begin,
            resumed=self.compare_data,
        )
        self.batches.report_of_all_ranks()
        if not self.in_last_stage:
            self.reporter.warn("the run ended before the flow's stage: its samples mean nothing yet")
        return self.engine.on_main(lambda: self.finish(finished, self.in_last_stage))

    def _begin(self) -> None:
        if "pretrain" not in self.config.stages:
            self._start_flow(0)
            self.facts["flow_from"] = [0, 0.0]

    def _describe(self) -> None:
        srflow = self.config.srflow
        count = sum(p.numel() for p in self.model.parameters())
        self.reporter.note(
            f"model: SRFlow x{srflow.scale}, {srflow.levels} levels of {srflow.steps} steps, encoder of "
            f"{self.config.encoder.blocks} blocks, {count / 1e6:.2f} M parameters"
        )
        if srflow.noise == "none":
            self.reporter.warn(
                "srflow.noise is none: the likelihood of 8-bit images has no upper bound, and training may "
                "diverge; bits are a density"
            )
        self.describe_training("bf16 networks" if self.precision else "fp32")

    # -- stages ---------------------------------------------------------------------------------------

    @property
    def first_share(self) -> float:
        return self.config.sr.pretrain_share

    def _flow_begins(self, step: int, share: float) -> bool:
        if self.in_last_stage:
            return False
        if self.config.sr.time_budget:
            return share >= self.config.sr.pretrain_share
        return step >= self.config.pretrain.iterations

    def _begin_flow(self, step: int, share: float) -> None:
        """The flow starts on the pretrained encoder's averaged weights, with new optimisers."""
        state = self.engine.state
        if state.average is not None:
            self.model.load_state_dict(state.average)
        self.engine.on_main(lambda: self._start_flow(step))
        state.share_weights()
        self.step.forget()
        state.begin()
        self.facts["flow_from"] = [step, share]
        self.engine.save()
        self.reporter.note(f"the flow's stage begins at step {step}")

    @torch.no_grad()
    def _start_flow(self, step: int) -> None:
        """Start the flow from the crops of the steps to come, in float32."""
        size = self.config.sr.batch_size
        batches = [
            self.data.ready(self.data.crops.batch(step + i, size), step + i, self.device)
            for i in range(-(-START_CROPS // size))
        ]
        y, x = (torch.cat(parts) for parts in zip(*batches, strict=True))
        noisy, strength = dequantised(self.model, y, self.step.noise(step, y.shape))
        with full_precision(self.model, self.precision):
            self.model.start(noisy, x, strength, regression=self.config.sr.start == "regression")

    # -- records --------------------------------------------------------------------------------------

    @contextmanager
    def _averaged(self) -> Iterator[SRFlow]:
        """The model as it will be used: averaged weights, evaluation mode, networks in float32."""
        with self.engine.state.averaged_model(), full_precision(self.model, self.precision):
            yield self.model

    def validate(self, step: int) -> None:
        """Held-out figures into the log; keeps the weights where they are the best so far."""
        if not self.in_last_stage:
            return
        with self._averaged():
            measured = self.validation.measure()
        self.book(step, measured)
        self.log_validation(step, measured)

    def is_better(self, value: float, best: float) -> bool:
        return self.select.is_better(value, best)

    def preview(self, step: int) -> None:
        """A grid of x, samples at several temperatures, and the truth."""
        if self.in_last_stage:
            with self._averaged():
                self.validation.preview(self.request.out / "previews" / f"{step:07d}.png")

    def save(self, path: Path, step: int, scores: Mapping[str, float]) -> None:
        sr = dataclasses.replace(self.config.sr, lpips_file=Path(self.config.sr.lpips_file).name)
        private = ("best", "last_scores", "validated")
        facts = {key: value for key, value in self.facts.items() if key not in private}
        facts |= {
            "title": self.request.out.resolve().name,
            "step": step,
            "scores": scores,
            "skipped_steps": self.engine.progress.bad_total,
            **environment_facts(self.device),
            "config": SRFLOW.to_toml(dataclasses.replace(self.config, sr=sr)),
        }
        with self._averaged() as model:
            save_srflow(path, model, facts)
