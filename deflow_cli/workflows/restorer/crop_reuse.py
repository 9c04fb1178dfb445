"""Reuse of crops: a clean crop is encoded once, and degraded with new noise each time it is used."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deflow_cli.config.restorer import TrainingConfig
from deflow_cli.data.pairs.crop_rounds import ONCE, Rounds
from deflow_cli.data.pairs.crops import PairCrops
from deflow_cli.degraders.base import Degrader, Draw
from deflow_cli.degraders.flow.degrader import FlowDegrader
from deflow_cli.degraders.flow.encodings import Encodings, bytes_of_encoding
from deflow_cli.errors import DeviceError
from deflow_cli.runtime.progress import Reporter

MOST_STEPS = 64  # of a round; reuse begins after a round, so that longer rounds begin to save later
FEWEST_STEPS = 4  # of a round; with fewer, the same crops would follow each other closely


def plan_rounds(sr: TrainingConfig, degrader: Degrader, scale: int, reporter: Reporter) -> Rounds:
    """How often each crop is used, and among how many steps.

    Only settings and sizes decide, not free memory, so that a run can be repeated.
    """
    if sr.crop_uses == 1 or not isinstance(degrader, FlowDegrader):
        return ONCE
    side = sr.gt_size // scale
    size = sr.batch_size * bytes_of_encoding(degrader, side, side)
    steps = min(sr.crop_pool_mib * 2**20 // size, MOST_STEPS)
    if steps < FEWEST_STEPS:
        needed = -(-FEWEST_STEPS * size // 2**20)
        reporter.note(
            f"crops are used once: sr.crop_pool_mib={sr.crop_pool_mib} does not hold the encodings of "
            f"{FEWEST_STEPS} steps, {needed} MiB"
        )
        return ONCE
    reporter.note(
        f"each crop is used {sr.crop_uses} times, with other noise each time, among those of {steps} steps"
    )
    return Rounds(sr.crop_uses, steps)


class CropReuse:
    """Degrades the crops of a step, and encodes those that are not stored.

    A crop is always encoded in the batch of its first use: rounding may depend on the other crops of the
    batch, and a run that is resumed with an empty store must continue with the same bits.
    """

    def __init__(self, crops: PairCrops, degrader: FlowDegrader, count: int, device: torch.device) -> None:
        self.crops, self.count, self.device = crops, count, device
        self.encodings = Encodings(degrader, crops.rounds.steps * count)

    def degrade(
        self, clean_bchw: Tensor, step: int, draw: Callable[[str], Draw], places: range | None = None
    ) -> Tensor:
        """The degraded crops of a step, B x 3 x H x W in [0, 1].

        clean_bchw: the small clean crops of the step, in [0, 1]. draw: gives the draw of a crop's
        key. places: those of the batch that the crops have; None: all of them.

        Raises DeviceError where the device's memory does not suffice.
        """
        numbers = self.crops.numbers(step, self.count, places)
        try:
            for batch in dict.fromkeys(number // self.count for number in numbers):
                together = list(range(batch * self.count, (batch + 1) * self.count))
                if not all(number in self.encodings for number in together):
                    clean = clean_bchw if together == numbers else self._clean(together)
                    self.encodings.keep(together, clean, [str(number) for number in together])
            return self.encodings.degrade(numbers, [draw(str(number)) for number in numbers])
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{self.device}: out of memory while crops are degraded",
                next_step="lower sr.crop_pool_mib, or sr.batch_size",
            ) from error

    @classmethod
    def of(cls, crops: PairCrops, degrader: Degrader, count: int, device: torch.device) -> CropReuse | None:
        """None where crops are used once, or the degrader encodes nothing that could be stored."""
        if crops.rounds.uses == 1 or not isinstance(degrader, FlowDegrader):
            return None
        return cls(crops, degrader, count, device)

    def _clean(self, numbers: list[int]) -> Tensor:
        return self.crops.numbered(numbers, self.count)[1].to(self.device).float() / 255
