"""Deferred metrics: figures that steps leave on the device, for the host to read later and all at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Outcome:
    """A step that was taken. figures: to log, 0-dim. rate: factor on the learning rates.

    finite: whether it counts, a 0-dim bool that stays on the device; if not, it has changed nothing.
    """

    figures: Mapping[str, Tensor]
    rate: float
    finite: Tensor


@dataclass(frozen=True)
class Reading:
    """A step as the host knows it. step: how many were taken, with it. share: of the run, done before it."""

    step: int
    share: float
    rate: float
    finite: bool
    figures: dict[str, float]


class DeferredMetrics:
    """Steps that were taken and not yet read, in order."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, float, float, tuple[str, ...]]] = []
        self._rows: list[Tensor] = []  # of each step its figures, then 1 where it is finite

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: int, share: float, outcome: Outcome) -> None:
        """Keep an outcome; the host does not wait for the device."""
        figures = [value.detach() for value in outcome.figures.values()]
        self._steps.append((step, share, outcome.rate, tuple(outcome.figures)))
        self._rows.append(torch.stack([*figures, outcome.finite]))

    def read(self) -> list[Reading]:
        """All of them, by one transfer; none is left."""
        if not self._steps:
            return []
        values = iter(torch.cat(self._rows).tolist())
        readings = []
        for step, share, rate, names in self._steps:
            figures = {name: next(values) for name in names}
            readings.append(Reading(step, share, rate, bool(next(values)), figures))
        self._steps, self._rows = [], []
        return readings
