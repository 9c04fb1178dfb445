"""Train state: weights, averages, optimisers and progress, in one file that a run resumes from."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deflow_cli.checkpoints.format import read_tensors, write_tensors
from deflow_cli.errors import CheckpointError
from deflow_cli.paths import MODEL_FILE, STATE_FILE
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.progress import Reporter
from deflow_cli.training.network import Network, move_together


@dataclass
class Progress:
    """Where a run stands: all of a run's state that is not a tensor.

    losses: sums and counts of the figures since the last line of the log. facts: JSON-ready, what the run
    found out about its data and itself; they outlive a kill.
    """

    step: int = 0
    seconds: float = 0.0
    rate_factor: float = 1.0
    bad_in_row: int = 0
    bad_total: int = 0
    restores: int = 0
    losses: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class TrainState:
    """All that a run must know to go on. ema: decay of the averaged weights per step; 0: none are kept.

    The averages are of the first network, which is the one that a run is for. ranks: of the training.
    """

    def __init__(
        self, networks: Sequence[Network], run_dir: Path, ema: float, ranks: Ranks | None = None
    ) -> None:
        self.ranks = ranks or Ranks()
        self.networks, self.path, self.ema = tuple(networks), run_dir / STATE_FILE, ema
        self.model = self.networks[0].module
        self.progress = Progress()
        self.average = self._copy_of_weights() if ema else None

    def share_weights(self) -> None:
        """Give all ranks the weights of the main one."""
        if self.ranks.size == 1:
            return
        for network in self.networks:
            weights = self.ranks.on_main(functools.partial(_on_cpu, network.module))
            network.module.load_state_dict(weights)

    def begin(self) -> None:
        """The averages begin at the model's present weights."""
        if self.average is not None:
            self.average = self._copy_of_weights()

    def _copy_of_weights(self) -> dict[str, Tensor]:
        return {key: value.detach().clone() for key, value in self.model.state_dict().items()}

    def save(self) -> None:
        """Write everything to one file, atomically; the main rank alone does."""
        if not self.ranks.is_main:
            return
        tensors = {f"average.{key}": value for key, value in (self.average or {}).items()}
        for network in self.networks:
            tensors |= network.tensors()
        write_tensors(self.path, tensors, {"deflow.progress": json.dumps(asdict(self.progress))})

    def restore(self) -> None:
        """Go back to the state on disk, which the main rank alone reads.

        Raises CheckpointError when it does not fit.
        """
        tensors, metadata = self.ranks.on_main(lambda: read_tensors(self.path))
        try:
            self.progress = Progress(**json.loads(metadata["deflow.progress"]))
            for network in self.networks:
                network.load(tensors)
            if self.average is not None:
                for key, value in self.average.items():
                    value.copy_(tensors[f"average.{key}"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.path}: does not fit this run ({_misfit(error)})",
                next_step="start afresh with another --out",
            ) from error

    # -- averages -------------------------------------------------------------------------------------

    @torch.no_grad()
    def update_average(self, finite: Tensor) -> None:
        """Move the averages towards the weights; by nothing where the step does not count (0-dim bool)."""
        if self.average is None:
            return
        decay = min(self.ema, (1 + self.progress.step) / (10 + self.progress.step))
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

    def averaged(self) -> dict[str, Tensor]:
        """The weights to use: the moving average, or the model's own where none is kept."""
        return self.average if self.average is not None else self.model.state_dict()

    @contextmanager
    def averaged_model(self) -> Iterator[nn.Module]:
        """The model itself with the averaged weights, in evaluation mode; afterwards as it was, to the bit.

        What is changed of it meanwhile is undone.
        """
        training = self.model.training
        trained = self._copy_of_weights()
        try:
            self._write(self.averaged())
            yield self.model.eval()
        finally:
            self._write(trained)
            self.model.train(training)

    @torch.no_grad()
    def _write(self, weights: dict[str, Tensor]) -> None:
        for key, value in self.model.state_dict().items():
            if value is not weights[key]:
                value.copy_(weights[key])


def _on_cpu(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.cpu() for key, value in module.state_dict().items()}


def _misfit(error: Exception) -> str:
    """Why a state does not fit, in our words."""
    if isinstance(error, KeyError):
        return f"it lacks {error.args[0]}"
    return "its networks are other ones" if isinstance(error, RuntimeError) else "its record is damaged"


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
