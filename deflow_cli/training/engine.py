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
from torch import Tensor

from deflow_cli.checkpoints.format import read_tensors, write_tensors
from deflow_cli.errors import CheckpointError, TrainingError
from deflow_cli.paths import LOG_FILE, MODEL_FILE, STATE_FILE
from deflow_cli.runtime.progress import Reporter
from deflow_cli.training.deferred_metrics import Outcome, Pending, Reading
from deflow_cli.training.log import Log
from deflow_cli.training.network import Network, move_together

TRAINING_SHARE = 0.93  # of a time budget; the rest is for what follows the last step

Hooks = Mapping[str, tuple[int, Callable[[int], None]]]  # by name: a period in steps, and what is called then


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


@dataclass(frozen=True)
class Turn:
    """What happens once before some step, when all that came before it is known.

    is_due(step, share) tells whether it is time, take(step, share) does it.
    """

    is_due: Callable[[int, float], bool]
    take: Callable[[int, float], None]


class Engine:
    """Takes steps for as long as a configuration says and keeps one resumable state.

    ``take_step(step, share, rate_factor)`` trains the networks once; all its randomness must come from the
    step, and a step that is not finite must leave the networks as they were. ``hooks`` map a period in steps
    to a function called with (step); they see the averaged weights of the first network in ``average``. The
    state on disk holds weights, averages, optimisers and progress. section: the configuration's, for
    messages. divergence_hint: the next step named where the training diverges. turn: happens once before a
    step. on_row(step, means): sees each line of the log.

    What steps found out is read late, so that the host can queue the next ones while a GPU computes: after
    ``read_every`` steps and wherever something depends on it. What is done about it is the same as if it had
    been read at once: a run that goes back drops the steps taken since. None: a CPU's at once, a GPU's for
    the lines of the log.
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
        divergence_hint: str = "lower fit.learning_rate, or set flow.scale=bounded",
        read_every: int | None = None,
        turn: Turn | None = None,
        on_row: Callable[[int, Mapping[str, float]], None] | None = None,
    ) -> None:
        self.networks, self.take_step, self.pace = tuple(networks), take_step, pace
        self.model = self.networks[0].module
        self.run_dir, self.reporter, self.section = run_dir, reporter, section
        self.divergence_hint, self.turn, self.on_row = divergence_hint, turn, on_row
        self.progress = Progress()
        self.average = self._copy_of_weights() if pace.ema else None
        on_cpu = next(self.model.parameters()).device.type == "cpu"
        self.read_every = read_every or (1 if on_cpu else pace.log_every)
        self._pending = Pending()
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
        assert not self._pending, "a state is of steps that are known to be good"
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

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside, the model holds the averaged weights and is in evaluation mode.

        Afterwards it has its own weights again, to the bit, whatever was done to them inside.
        """
        was_training, own = self.model.training, self._copy_of_weights()
        self.model.load_state_dict(self.averaged())
        self.model.eval()
        try:
            yield
        finally:
            self.model.load_state_dict(own)
            self.model.train(was_training)

    # -- running --------------------------------------------------------------------------------------

    @property
    def share(self) -> float:
        """How much of the run is done, 0 to 1: by steps, or by time where no number of steps is set."""
        if self.pace.iterations:
            return self.progress.step / self.pace.iterations
        self._tick()
        return self.progress.seconds / (TRAINING_SHARE * self.pace.time_budget)

    def run(self, hooks: Hooks) -> bool:
        """Train to the end. Returns False when interrupted (Ctrl-C); the state is saved either way."""
        self.reporter.start(self.section, self.pace.iterations or None)
        with self._interruptible():
            while True:
                share = self.share
                ends = share >= 1.0 or self._stop
                turn = None if ends else self._due_turn(share)
                went_back = (ends or turn is not None) and self._settle()
                if not went_back:
                    if ends:
                        break
                    if turn is not None:
                        turn.take(self.progress.step, share)
                    self._step(share)
                    if self._is_to_be_read(hooks):
                        self._settle()
                self._look_after(hooks)
        if not self.progress.step and not self._stop:
            self.reporter.warn("the time budget ended before the first step: the model is only its start")
        self.save()
        self.reporter.finish()
        return not self._stop

    def _due_turn(self, share: float) -> Turn | None:
        return self.turn if self.turn is not None and self.turn.is_due(self.progress.step, share) else None

    def _step(self, share: float) -> None:
        """Take a step. The host waits for nothing here."""
        progress = self.progress
        outcome = self.take_step(progress.step, share, progress.rate_factor)
        progress.step += 1
        self._update_average(outcome.finite)
        self._pending.add(progress.step, share, outcome)

    def _is_to_be_read(self, hooks: Hooks) -> bool:
        """Whether anything now depends on how the last steps went."""
        periods = [self.pace.log_every, self.pace.checkpoint_every, *(every for every, _ in hooks.values())]
        due = any(self.progress.step % every == 0 for every in periods)
        return due or len(self._pending) >= self.read_every

    def _settle(self) -> bool:
        """Book the steps not yet read. Returns True when the run went back: later steps never happened."""
        for reading in self._pending.read():
            if reading.finite:
                self.progress.bad_in_row = 0
                self._record(reading)
            elif self._skip(reading.step):
                return True
        return False

    def _look_after(self, hooks: Hooks) -> None:
        """Call the hooks of a step, and save the state, where their periods end."""
        for every, hook in hooks.values():
            if self.progress.step % every == 0:
                hook(self.progress.step)
        if self.progress.step % self.pace.checkpoint_every == 0:
            self.save()

    def _skip(self, failed_at: int) -> bool:
        """A non-finite step changes nothing; a run of them restores the last good state at half the rate.

        Returns whether it did.
        """
        progress = self.progress
        progress.bad_in_row += 1
        progress.bad_total += 1
        if progress.bad_in_row < self.pace.max_bad_steps:
            return False
        factor, restores, total = progress.rate_factor / 2, progress.restores + 1, progress.bad_total
        if restores > 5:
            raise TrainingError(
                f"training diverged {restores} times, at rates down to {factor:g} of the configured",
                next_step=self.divergence_hint,
            )
        self.restore()
        self.progress.rate_factor, self.progress.restores, self.progress.bad_total = factor, restores, total
        self.reporter.warn(
            f"{self.pace.max_bad_steps} non-finite steps in a row at step {failed_at}: back to step "
            f"{self.progress.step} at {factor:g} of the learning rate"
        )
        return True

    @torch.no_grad()
    def _update_average(self, finite: Tensor) -> None:
        """Move the averages towards the weights; by nothing where the step does not count."""
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
        share = finite * (1.0 - decay)
        if share.is_cuda:  # lerp by a tensor would launch a kernel for every weight
            move_together(floats, sources, share)
        else:
            torch._foreach_lerp_(floats, sources, [share.to(value.dtype) for value in floats])

    def _record(self, reading: Reading) -> None:
        """Sum figures; every ``log_every`` steps write their means as one line."""
        sums, step = self.progress.losses, reading.step
        for key, value in reading.figures.items():
            total = sums.setdefault(key, [0.0, 0.0])
            total[0] += value
            total[1] += 1
        if step % self.pace.log_every:
            return
        row = {key: total / count for key, (total, count) in sums.items()}
        self.progress.losses = {}
        self._tick()
        self.log.write(
            {
                "step": step,
                **{k: round(v, 6) for k, v in row.items()},
                "rate": reading.rate,
                "skipped": self.progress.bad_total,
                "seconds": round(self.progress.seconds, 3),
            }
        )
        if self.on_row is not None:
            self.on_row(step, row)
        shown = {k: round(v, 3) for k, v in row.items() if k != "gradient_norm"}
        self.reporter.update(step, **shown, share=f"{100 * reading.share:.0f} %")

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
