"""Engine: takes training steps for as long as a configuration says, and keeps one resumable state."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from deflow_cli.errors import TrainingError
from deflow_cli.paths import LOG_FILE
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.progress import Reporter
from deflow_cli.training.deferred_metrics import DeferredMetrics, Outcome, Reading
from deflow_cli.training.log import Log
from deflow_cli.training.network import Network
from deflow_cli.training.train_state import Progress, TrainState

TRAINING_SHARE = 0.93  # of a time budget; the rest is for what follows the last step
LEAST_STEPS = 5  # that a run takes, however short its time budget: a model of no step is none

Hooks = Mapping[str, tuple[int, Callable[[int], None]]]  # by name: a period in steps, and what is called then
T = TypeVar("T")
OnRow = Callable[[int, Mapping[str, float]], None]  # takes a step and the means that the log has for it


class Pace(Protocol):
    """How long a run is, and how often it looks after itself; a section of a configuration has it."""

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
    """What happens once before some step, when the outcome of all earlier steps is known.

    is_due(step, share) says whether it is time, take(step, share) does it.
    """

    is_due: Callable[[int, float], bool]
    take: Callable[[int, float], None]


class Engine:
    """Takes steps for as long as a configuration says and keeps one resumable state.

    ``take_step(step, share, rate_factor)`` trains the networks once; all its randomness must come from the
    step, and a step that is not finite must leave the networks as they were. The hooks of ``run`` map a
    period in steps to a function called with (step); they find the averaged weights in ``state``.

    section: the configuration's, for messages. divergence_hint: what to do where the training diverges.
    on_row: sees each row of means. turn: what happens once during the run.

    What steps found out is read late, so that the host can queue the next ones while a GPU computes: after
    ``read_every`` steps and wherever something depends on it. What is done about it is the same as if it had
    been read at once: a run that goes back drops the steps taken since. None: a CPU's at once, a GPU's for
    the lines of the log.

    Of several ranks (``Ranks.current()``) the main one writes the log and the state; all take the same steps,
    by the main one's clock, and stop when any of them is told to.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        take_step: Callable[[int, float, float], Outcome],
        pace: Pace,
        run_dir: Path,
        reporter: Reporter,
        started: float,
        *,
        section: str = "fit",
        divergence_hint: str = "lower fit.learning_rate, or set flow.scale=bounded",
        read_every: int | None = None,
        on_row: OnRow | None = None,
        turn: Turn | None = None,
    ) -> None:
        self.take_step, self.pace, self.reporter = take_step, pace, reporter
        self.section, self.divergence_hint, self.on_row, self.turn = section, divergence_hint, on_row, turn
        self.ranks = ranks = Ranks.current()
        self.state = TrainState(networks, run_dir, pace.ema, ranks)
        on_cpu = next(self.state.model.parameters()).device.type == "cpu"
        self.read_every = read_every or (1 if on_cpu else pace.log_every)
        self.log = Log(run_dir / LOG_FILE, section, pace.tensorboard, writes=ranks.is_main)
        self._deferred = DeferredMetrics()
        self._clock = started
        self._stop = False
        self._tells_least_steps = False

    @property
    def progress(self) -> Progress:
        """Where the run stands; a restore replaces it."""
        return self.state.progress

    def begin(self) -> None:
        """A run begins at the model's present weights (after a data-dependent start); the log is empty."""
        self.log.go_back(-1)
        self.state.begin()
        self.save()

    def on_main(self, function: Callable[[], T]) -> T:
        """Call what only the main rank is to do; all ranks have its result, and the run's facts after it."""
        result, self.progress.facts = self.ranks.on_main(lambda: (function(), self.progress.facts))
        return result

    def hook_of_main(self, hook: Callable[[int], None]) -> Callable[[int], None]:
        """A hook that the main rank alone runs."""
        return lambda step: self.on_main(lambda: hook(step))

    def save(self) -> None:
        """Write the whole state to one file, atomically."""
        assert not self._deferred, "a state is of steps that are known to be good"
        self._tick()
        self.state.save()

    def restore(self) -> None:
        """Go back to the state on disk. Raises CheckpointError when it does not fit."""
        self.state.restore()
        self.log.go_back(self.progress.step)
        self._clock = time.monotonic()

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
                share, stop = self.ranks.agree(self.share, self._stop)
                if share >= 1.0 and self._is_too_short():
                    share = self.progress.step / LEAST_STEPS  # so that the learning rate has its course
                ends = stop or share >= 1.0
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
        if stop and not self._stop:
            self.reporter.note(
                "another process was told to stop: stopping after this step; the state is saved"
            )
        self.save()
        self.reporter.finish()
        return not stop

    def _is_too_short(self) -> bool:
        """Whether the time budget ended before the least number of steps was taken; says so once."""
        step = self.progress.step
        if self.pace.iterations or step >= LEAST_STEPS:
            return False
        if not self._tells_least_steps:
            self._tells_least_steps = True
            after = f"after {step} steps" if step else "before the first step"
            self.reporter.warn(
                f"the time budget ended {after}: {LEAST_STEPS} steps are taken all the same, which is far "
                "too few for a good model; give it more time"
            )
        return True

    def _due_turn(self, share: float) -> Turn | None:
        return self.turn if self.turn is not None and self.turn.is_due(self.progress.step, share) else None

    def _step(self, share: float) -> None:
        """Take a step. The host waits for nothing here."""
        progress = self.progress
        outcome = self.take_step(progress.step, share, progress.rate_factor)
        progress.step += 1
        self.state.update_average(outcome.finite)
        self._deferred.add(progress.step, share, outcome)

    def _is_to_be_read(self, hooks: Hooks) -> bool:
        """Whether anything now depends on how the last steps went."""
        periods = [self.pace.log_every, self.pace.checkpoint_every, *(every for every, _ in hooks.values())]
        due = any(self.progress.step % every == 0 for every in periods)
        return due or len(self._deferred) >= self.read_every

    def _settle(self) -> bool:
        """Book the steps not yet read. Returns True when the run went back: later steps never happened."""
        for reading in self._deferred.read():
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
        """Ctrl-C and SIGTERM end the run after the step under way; a second Ctrl-C ends it at once.

        Of several ranks, each gets the signal at its own time, perhaps after the others have agreed to stop,
        so they keep the handler until they part.
        """
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
            for kind, handler in before.items() if self.ranks.size == 1 else ():
                signal.signal(kind, handler)
