"""Batches of a restorer's run: crops of each step on the device, and the pairs that had to be left out."""

from __future__ import annotations

import torch
from torch import Tensor

from deflow_cli.runtime.progress import Reporter
from deflow_cli.training.batches import BatchStream
from deflow_cli.workflows.restorer.data import SrData


class RestorerBatches:
    """The crops of each step, made ahead; of several ranks each has its part."""

    def __init__(self, data: SrData, batch_size: int, device: torch.device, reporter: Reporter) -> None:
        self._data, self._device, self._reporter = data, device, reporter
        self.stream: BatchStream[tuple[Tensor, Tensor]] = BatchStream(data.part, batch_size, device)
        self._reported: set[str] = set()

    def of_step(self, step: int) -> tuple[Tensor, Tensor]:
        """The step's clean and degraded crops on the device; warns once of each pair that was left out."""
        batch = self.stream.of_step(step)
        self._report(self._dropped())
        return self._data.part_ready(batch, step, self._device)

    def report_of_all_ranks(self) -> None:
        """Warn of what any rank left out."""
        self._report(self._data.ranks.gathered(self._dropped()))

    def _dropped(self) -> list[tuple[str, str]]:
        return list(self._data.crops.dropped.items())

    def _report(self, dropped: list[tuple[str, str]]) -> None:
        for name, reason in dropped:
            if name not in self._reported:
                self._reported.add(name)
                self._reporter.warn(f"pair {name} left out: {reason}")
