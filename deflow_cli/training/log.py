"""Log: the figures of a run while it trains, one JSON object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.errors import ConfigError, unwritable


class Log:
    """One JSON object per line; rows beyond a step are dropped when a run goes back to it."""

    def __init__(
        self, path: Path, section: str = "fit", tensorboard: bool = False, *, writes: bool = True
    ) -> None:
        """section: the configuration's, for the error where TensorBoard is asked for and not installed.

        writes: whether anything is written; of several ranks the main one alone does.
        """
        self.path, self.writes = path, writes
        self._events = _event_writer(path.parent, section) if tensorboard and writes else None

    def go_back(self, step: int) -> None:
        """Drop what was logged after a step, and a line cut short by a kill."""
        if self.writes and self.path.exists():
            kept = [line for line in self.path.read_text().splitlines() if _row_step(line) <= step]
            write_atomically(self.path, "".join(line + "\n" for line in kept).encode())

    def write(self, row: Mapping[str, Any]) -> None:
        if not self.writes:
            return
        try:
            with open(self.path, "a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise unwritable(self.path, error, next_step="the same command with --resume goes on") from error
        if self._events is not None:
            for key, value in row.items():
                if isinstance(value, float):
                    self._events.add_scalar(key, value, int(row["step"]))
            self._events.flush()


def _event_writer(folder: Path, section: str) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            f"{section}.tensorboard is set, but tensorboard is not installed",
            next_step="pip install 'deflow-cli[tensorboard]'",
        ) from error
    return SummaryWriter(str(folder / "tensorboard"))


def _row_step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
