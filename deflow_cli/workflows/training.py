"""Training engine: steps, schedule, averages, records and a state that resumes to the bit."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..checkpoints.format import read_tensors, write_tensors
from ..errors import CheckpointError, TrainingError
from ..runtime.progress import Reporter
from .run_log import LOG_FILE, Log

__all__ = ["LOG_FILE", "MODEL_FILE", "STATE_FILE", "Engine", "Network", "Outcome", "Pace", "Progress"]

MODEL_FILE, STATE_FILE = "model.safetensors", "state.safetensors"
TRAINING_SHARE = 0.93  # of a time budget; the rest is for what follows the last step


@dataclass
class Progress:
    """Where a run stands: all of a run's state that is not a tensor."""

    step: int = 0
    seconds: float = 0.0
    rate_factor: float = 1.0
    bad_in_row: int = 0
    bad_total: int = 0
    restores: int = 0
    losses: dict[str, list[float]] = field(default_factory=dict)  # sums and counts since the last log line
    facts: dict[str, Any] = field(default_factory=dict)  # what was found out about the data before step 0


class Pace(Protocol):
    """How long a run is, and how often it looks after itself; the section of a configuration has it."""

    @property
    def iterations(self) -> int:
        """Steps; 0: as many as the time budget allows."""

    @property
    def time_budget(self) -> float:
        """Seconds; counts where iterations is 0."""

    @property
    def ema(self) -> float:
        """Decay of the averaged weights per step; 0: none."""

    @property
    def log_every(self) -> int: ...

    @property
    def checkpoint_every(self) -> int: ...

    @property
    def max_bad_steps(self) -> int:
        """Non-finite steps in a row before the last good state is restored."""

    @property
    def tensorboard(self) -> bool: ...


class Network:
    """A network that is trained, with its optimiser. prefix: of its tensors in the state file."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, prefix: str = "") -> None:
        self.module, self.optimizer, self.prefix = module, optimizer, prefix
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def tensors(self) -> dict[str, Tensor]:
        """Weights and the optimiser's state, under their names in the state file."""
        tensors = {f"{self.prefix}model.{k}": v for k, v in self.module.state_dict().items()}
        for index, parameter in enumerate(self.parameters):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{self.prefix}optimizer.{index}.{key}"] = torch.as_tensor(value)
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to what ``tensors`` gave. Raises RuntimeError where a tensor is missing or misshapen."""
        self.module.load_state_dict(_below(f"{self.prefix}model.", tensors), strict=True)
        for index, parameter in enumerate(self.parameters):
            state = _below(f"{self.prefix}optimizer.{index}.", tensors)
            self.optimizer.state[parameter] = {k: _placed(v, parameter) for k, v in state.items()}
        for parameter in [p for p in self.optimizer.state if not self.optimizer.state[p]]:
            del self.optimizer.state[parameter]


@dataclass(frozen=True)
class Outcome:
    """A step that was taken. figures: to log. rate: factor on the learning rates. finite: it counts."""

    figures: Mapping[str, Tensor]
    rate: float
    finite: bool


class Engine:
    """Takes steps for as long as a configuration says and keeps one resumable state.

    ``take_step(step, share, rate_factor)`` trains the networks once; all its randomness must come from the
    step, and a step that is not finite must leave the networks as they were. ``hooks`` map a period in steps
    to a function called with (step); they see the averaged weights of the first network in ``average``. The
    state on disk holds weights, averages, optimisers and progress. section: the configuration's, for
    messages; way_out: what to do where the training diverges.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        take_step: Callable[[int, float, float], Outcome],
        pace: Pace,
        run_dir: Path,
        reporter: Reporter,
        started: float,
        section: str = "fit",
        way_out: str = "lower fit.learning_rate, or set flow.scale=bounded",
    ) -> None:
        self.networks, self.take_step, self.pace = tuple(networks), take_step, pace
        self.model = self.networks[0].module
        self.run_dir, self.reporter, self.section, self.way_out = run_dir, reporter, section, way_out
        self.progress = Progress()
        self.average = self._copy_of_weights() if pace.ema else None
        self.on_row: Callable[[int, Mapping[str, float]], None] | None = None  # sees each row of means
        self._clock = started
        self._stop = False
        self.log = Log(run_dir / LOG_FILE, section, pace.tensorboard)

    # -- state ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A run begins at the model's present weights (after a data-dependent start); the log is empty."""
        self.log.go_back(-1)
        if self.average is not None:
            self.average = self._copy_of_weights()
        self.save()

    def _copy_of_weights(self) -> dict[str, Tensor]:
        return {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def save(self) -> None:
        """Write the whole state to one file, atomically."""
        tensors = {f"average.{key}": value for key, value in (self.average or {}).items()}
        for network in self.networks:
            tensors |= network.tensors()
        self._tick()
        write_tensors(
            self.run_dir / STATE_FILE, tensors, {"deflow.progress": json.dumps(asdict(self.progress))}
        )

    def restore(self) -> None:
        """Go back to the state on disk. Raises CheckpointError when it does not fit."""
        path = self.run_dir / STATE_FILE
        tensors, metadata = read_tensors(path)
        try:
            self.progress = Progress(**json.loads(metadata["deflow.progress"]))
            for network in self.networks:
                network.load(tensors)
            if self.average is not None:
                for key, value in self.average.items():
                    value.copy_(tensors[f"average.{key}"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: does not fit this run ({error})", next_step="start afresh with another --out"
            ) from error
        self.log.go_back(self.progress.step)
        self._clock = time.monotonic()

    def averaged(self) -> dict[str, Tensor]:
        """The weights to use: the moving average, or the model's own where none is kept."""
        return self.average if self.average is not None else self.model.state_dict()

    # -- running --------------------------------------------------------------------------------------

    @property
    def share(self) -> float:
        """How much of the run is done, 0 to 1: by steps, or by time where no number of steps is set."""
        if self.pace.iterations:
            return self.progress.step / self.pace.iterations
        self._tick()
        return self.progress.seconds / (TRAINING_SHARE * self.pace.time_budget)

    def run(self, hooks: Mapping[str, tuple[int, Callable[[int], None]]]) -> bool:
        """Train to the end. Returns False when interrupted (Ctrl-C); the state is saved either way."""
        self.reporter.start(self.section, self.pace.iterations or None)
        with self._interruptible():
            while (share := self.share) < 1.0 and not self._stop:
                self._step(share)
                for every, hook in hooks.values():
                    if self.progress.step % every == 0:
                        hook(self.progress.step)
                if self.progress.step % self.pace.checkpoint_every == 0:
                    self.save()
        if not self.progress.step and not self._stop:
            self.reporter.warn("the time budget ended before the first step: the model is only its start")
        self.save()
        self.reporter.finish()
        return not self._stop

    def _step(self, share: float) -> None:
        progress = self.progress
        outcome = self.take_step(progress.step, share, progress.rate_factor)
        progress.step += 1
        if outcome.finite:
            self._update_average()
            progress.bad_in_row = 0
            self._record(outcome.figures, share, outcome.rate)
        else:
            self._skip()

    def _skip(self) -> None:
        """A non-finite step changes nothing; a run of them restores the last good state at half the rate."""
        progress = self.progress
        progress.bad_in_row += 1
        progress.bad_total += 1
        if progress.bad_in_row < self.pace.max_bad_steps:
            return
        factor, restores, total = progress.rate_factor / 2, progress.restores + 1, progress.bad_total
        if restores > 5:
            raise TrainingError(
                f"training diverged {restores} times, at rates down to {factor:g} of the configured",
                next_step=self.way_out,
            )
        failed_at = progress.step
        self.restore()
        self.progress.rate_factor, self.progress.restores, self.progress.bad_total = factor, restores, total
        self.reporter.warn(
            f"{self.pace.max_bad_steps} non-finite steps in a row at step {failed_at}: back to step "
            f"{self.progress.step} at {factor:g} of the learning rate"
        )

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average is None:
            return
        decay = min(self.pace.ema, (1 + self.progress.step) / (10 + self.progress.step))
        floats, sources = [], []
        for key, value in self.model.state_dict().items():
            if value.is_floating_point():
                floats.append(self.average[key])
                sources.append(value)
            else:
                self.average[key].copy_(value)
        torch._foreach_lerp_(floats, sources, 1.0 - decay)

    def _record(self, figures: Mapping[str, Tensor], share: float, factor: float) -> None:
        """Sum figures; every ``log_every`` steps write their means as one line."""
        sums = self.progress.losses
        for key, value in figures.items():
            total = sums.setdefault(key, [0.0, 0.0])
            total[0] += float(value.detach())
            total[1] += 1
        if self.progress.step % self.pace.log_every:
            return
        row = {key: total / count for key, (total, count) in sums.items()}
        self.progress.losses = {}
        self._tick()
        self.log.write(
            {
                "step": self.progress.step,
                **{k: round(v, 6) for k, v in row.items()},
                "rate": factor,
                "skipped": self.progress.bad_total,
                "seconds": round(self.progress.seconds, 3),
            }
        )
        if self.on_row is not None:
            self.on_row(self.progress.step, row)
        shown = {k: round(v, 3) for k, v in row.items() if k != "gradient_norm"}
        self.reporter.update(self.progress.step, **shown, share=f"{100 * share:.0f} %")

    def _tick(self) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self._clock
        self._clock = now

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the run after the step under way; a second Ctrl-C ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(signum: int, frame: object) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = True
            self.reporter.note("stopping after this step; the state is saved")

        before = {kind: signal.signal(kind, stop) for kind in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)


def can_resume(run_dir: Path, reporter: Reporter, model_file: str = MODEL_FILE) -> bool:
    """Whether there is a state to go on from; a run killed before its first one begins anew, and says so.

    Raises CheckpointError for a folder with a model but no state: the model would be overwritten.
    """
    if (run_dir / STATE_FILE).exists():
        return True
    if (run_dir / model_file).exists():
        raise CheckpointError(
            f"{run_dir}: holds a model but no {STATE_FILE} to go on from",
            next_step="start afresh with another --out",
        )
    reporter.note(f"{run_dir} holds no {STATE_FILE} to go on from: the run begins at step 0")
    return False


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _placed(value: Tensor, parameter: Tensor) -> Tensor:
    """A copy on the parameter's device, and laid out in memory as it is where the shapes are the same."""
    if value.shape != parameter.shape:
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
