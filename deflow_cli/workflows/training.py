"""Training engine: steps, schedule, averages, records and a state that resumes to the bit."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.format import read_tensors, write_atomically, write_tensors
from ..config import FitConfig
from ..errors import CheckpointError, ConfigError, TrainingError
from ..runtime.progress import Reporter

MODEL_FILE, STATE_FILE, LOG_FILE = "model.safetensors", "state.safetensors", "log.jsonl"
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


def schedule_factor(fit: FitConfig, share: float) -> float:
    """The learning rate's factor at a share (0 to 1) of the run."""
    if fit.schedule == "published":
        factor = 0.5 ** sum(share >= at for at in (0.5, 0.75, 0.9, 0.95))
    elif fit.schedule == "cosine":
        after = max(share - fit.warmup, 0.0) / max(1.0 - fit.warmup, 1e-9)
        factor = 0.5 * (1.0 + math.cos(math.pi * min(after, 1.0)))
    else:
        factor = 1.0
    warm = min(1.0, (share + 1e-3) / fit.warmup) if fit.warmup else 1.0
    return max(factor * warm, 1e-3)


class Log:
    """One JSON object per line; rows beyond a step are dropped when a run goes back to it."""

    def __init__(self, path: Path, tensorboard: bool = False) -> None:
        self.path = path
        self._events = _event_writer(path.parent) if tensorboard else None

    def go_back(self, step: int) -> None:
        """Drop what was logged after a step, and a line cut short by a kill."""
        if self.path.exists():
            kept = [line for line in self.path.read_text().splitlines() if _row_step(line) <= step]
            write_atomically(self.path, "".join(line + "\n" for line in kept).encode())

    def write(self, row: Mapping[str, Any]) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")
        if self._events is not None:
            for key, value in row.items():
                if isinstance(value, float):
                    self._events.add_scalar(key, value, int(row["step"]))
            self._events.flush()


def _event_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "fit.tensorboard is set, but tensorboard is not installed",
            next_step="pip install 'deflow-cli[tensorboard]'",
        ) from error
    return SummaryWriter(str(folder / "tensorboard"))


def _row_step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class Engine:
    """Runs a loss over the steps of a configuration and keeps one resumable state.

    ``loss_of(step)`` returns the loss and the figures to log; all its randomness must come from the step.
    ``hooks`` map a period in steps to a function called with (step); they see the averaged weights in
    ``average``. The state on disk holds weights, averages, optimiser and progress.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: list[dict[str, Any]],
        fit: FitConfig,
        run_dir: Path,
        loss_of: Callable[[int], tuple[Tensor, dict[str, Tensor]]],
        reporter: Reporter,
        started: float,
    ) -> None:
        self.model, self.fit, self.run_dir, self.reporter = model, fit, run_dir, reporter
        self.loss_of = loss_of
        self.progress = Progress()
        device = next(model.parameters()).device
        self.optimizer = torch.optim.AdamW(
            groups, lr=fit.learning_rate, betas=fit.betas, fused=device.type in ("cuda", "cpu")
        )
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.parameters = [p for group in groups for p in group["params"]]
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()} if fit.ema else None
        self._clock = started
        self._stop = False
        self.log = Log(run_dir / LOG_FILE, fit.tensorboard)

    # -- state ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A run begins at the model's present weights (after a data-dependent start); the log is empty."""
        self.log.go_back(-1)
        if self.average is not None:
            self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.save()

    def save(self) -> None:
        """Write the whole state to one file, atomically."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for key, value in (self.average or {}).items():
            tensors[f"average.{key}"] = value
        for index, parameter in enumerate(self.parameters):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{index}.{key}"] = torch.as_tensor(value)
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
            self.model.load_state_dict(_below("model.", tensors), strict=True)
            if self.average is not None:
                for key, value in self.average.items():
                    value.copy_(tensors[f"average.{key}"])
            for index, parameter in enumerate(self.parameters):
                state = _below(f"optimizer.{index}.", tensors)
                self.optimizer.state[parameter] = {
                    k: v.to(parameter.device, copy=True) for k, v in state.items()
                }
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: does not fit this run ({error})", next_step="start afresh with another --out"
            ) from error
        for parameter in [p for p in self.optimizer.state if not self.optimizer.state[p]]:
            del self.optimizer.state[parameter]
        self.log.go_back(self.progress.step)
        self._clock = time.monotonic()

    def averaged(self) -> dict[str, Tensor]:
        """The weights to use: the moving average, or the model's own where none is kept."""
        return self.average if self.average is not None else self.model.state_dict()

    # -- running --------------------------------------------------------------------------------------

    @property
    def share(self) -> float:
        """How much of the run is done, 0 to 1: by steps, or by time where no number of steps is set."""
        if self.fit.iterations:
            return self.progress.step / self.fit.iterations
        self._tick()
        return self.progress.seconds / (TRAINING_SHARE * self.fit.time_budget)

    def run(self, hooks: Mapping[str, tuple[int, Callable[[int], None]]]) -> bool:
        """Train to the end. Returns False when interrupted (Ctrl-C); the state is saved either way."""
        self.reporter.start("fit", self.fit.iterations or None)
        with self._interruptible():
            while (share := self.share) < 1.0 and not self._stop:
                self._step(share)
                for every, hook in hooks.values():
                    if self.progress.step % every == 0:
                        hook(self.progress.step)
                if self.progress.step % self.fit.checkpoint_every == 0:
                    self.save()
        if not self.progress.step and not self._stop:
            self.reporter.warn("the time budget ended before the first step: the model is only its start")
        self.save()
        self.reporter.finish()
        return not self._stop

    def _step(self, share: float) -> None:
        progress = self.progress
        factor = schedule_factor(self.fit, share) * progress.rate_factor
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        loss, figures = self.loss_of(progress.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        limit = self.fit.clip_gradients or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, limit)
        progress.step += 1
        if bool(torch.isfinite(norm) & torch.isfinite(loss.detach())):
            self.optimizer.step()
            self._update_average()
            progress.bad_in_row = 0
            self._record({**figures, "gradient_norm": norm}, share, factor)
        else:
            self._skip()

    def _skip(self) -> None:
        """A non-finite step changes nothing; a run of them restores the last good state at half the rate."""
        progress = self.progress
        progress.bad_in_row += 1
        progress.bad_total += 1
        if progress.bad_in_row < self.fit.max_bad_steps:
            return
        factor, restores, total = progress.rate_factor / 2, progress.restores + 1, progress.bad_total
        if restores > 5:
            raise TrainingError(
                f"training diverged {restores} times, at rates down to {factor:g} of the configured",
                next_step="lower fit.learning_rate, or set flow.scale=bounded",
            )
        failed_at = progress.step
        self.restore()
        self.progress.rate_factor, self.progress.restores, self.progress.bad_total = factor, restores, total
        self.reporter.warn(
            f"{self.fit.max_bad_steps} non-finite steps in a row at step {failed_at}: back to step "
            f"{self.progress.step} at {factor:g} of the learning rate"
        )

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average is None:
            return
        decay = min(self.fit.ema, (1 + self.progress.step) / (10 + self.progress.step))
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
        if self.progress.step % self.fit.log_every:
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


def can_resume(run_dir: Path, reporter: Reporter) -> bool:
    """Whether there is a state to go on from; a run killed before its first one begins anew, and says so.

    Raises CheckpointError for a folder with a model but no state: the model would be overwritten.
    """
    if (run_dir / STATE_FILE).exists():
        return True
    if (run_dir / MODEL_FILE).exists():
        raise CheckpointError(
            f"{run_dir}: holds a model but no {STATE_FILE} to go on from",
            next_step="start afresh with another --out",
        )
    reporter.note(f"{run_dir} holds no {STATE_FILE} to go on from: the run begins at step 0")
    return False


def parameter_groups(model: nn.Module, fit: FitConfig) -> list[dict[str, Any]]:
    """Weights with decay; ActNorm, biases and logs without; couplings and the shift at their own rates."""
    rate = fit.learning_rate
    rates = {
        "prior": fit.shift_learning_rate or rate,
        "coupling": rate * fit.coupling_rate,
        "other": rate,
    }
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        kind = "prior" if name.startswith("prior.") else "coupling" if ".coupling." in name else "other"
        if kind == "coupling" and not fit.coupling_rate:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            decays = kind != "prior" and name.endswith(("weight", "weight_in", "weight_mid"))
            groups.setdefault((kind, decays), []).append(parameter)
    return [
        {"params": parameters, "lr": rates[kind], "weight_decay": fit.weight_decay if decays else 0.0}
        for (kind, decays), parameters in groups.items()
    ]


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
