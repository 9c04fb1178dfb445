"""Ranks: the processes of one training, as torchrun starts them; a single process is the only rank.

What a rank must not decide alone is decided here: whether a step counts, which part of a batch is whose, and
who writes files.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Ranks:
    """This process among the ``size`` processes of a training. rank: 0 to size - 1.

    >>> alone = Ranks()
    >>> alone.is_main, alone.part(8), bool(alone.all_true(torch.tensor(True)))
    (True, range(0, 8), True)
    >>> Ranks(rank=1, size=4).part(8)
    range(2, 4)
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """Those of the default process group; a single rank where none was initialised."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and reports."""
        return self.rank == 0

    def part(self, batch_size: int) -> range:
        """The places of a batch that this rank computes; all ranks together have each place once.

        A sampler that draws patch i of step s from (seed, s, i) so draws the same patches on any number of
        ranks. The size must be a multiple of the number of ranks.
        """
        assert batch_size % self.size == 0, f"a batch of {batch_size} on {self.size} ranks"
        share = batch_size // self.size
        return range(self.rank * share, (self.rank + 1) * share)

    def all_true(self, flag: Tensor) -> Tensor:
        """Whether a 0-dim bool holds on every rank; the host does not wait for a CUDA device."""
        if self.size == 1:
            return flag
        everywhere = flag.to(torch.uint8)
        distributed.all_reduce(everywhere, op=distributed.ReduceOp.MIN)
        return everywhere.bool()
