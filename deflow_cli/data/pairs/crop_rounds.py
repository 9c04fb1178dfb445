"""Rounds: in which steps each crop is used again, as a function of (seed, step)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rounds:
    """A round passes ``uses`` times over the new crops of ``steps`` steps.

    The first pass takes the crops as they are made, every further pass in another random order, so that a
    crop is used again after ``steps`` steps on average and beside other crops. With one use all are new.
    """

    uses: int = 1
    steps: int = 1

    def numbers(self, step: int, count: int, seed: int) -> list[int]:
        """The numbers of a step's ``count`` crops, 0, 1, 2 ... in the order of their first use."""
        past, place = divmod(step, self.uses * self.steps)
        turn, part = divmod(place, self.steps)
        of_round = np.arange(part * count, (part + 1) * count)
        if turn:
            rng = np.random.Generator(np.random.PCG64([seed, past, turn, 7]))
            of_round = rng.permutation(self.steps * count)[of_round]
        return [past * self.steps * count + int(number) for number in of_round]


ONCE = Rounds()
