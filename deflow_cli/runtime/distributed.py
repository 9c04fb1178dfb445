"""Ranks: the processes of one training, as torchrun starts them; a single process is the only rank.

What a rank must not decide alone is decided here: whether a step counts, which part of a batch is whose, what
time it is, and who writes files. Each method is called by all ranks, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

from deflow_cli.errors import ConfigError, DeflowError, ToldElsewhere

STEP_TIMEOUT = timedelta(minutes=10)  # that ranks wait for each other in a step, and when they start
MAIN_TIMEOUT = timedelta(hours=2)  # that the others wait while the main rank validates or writes

T = TypeVar("T")


@dataclass(frozen=True)
class _Failure:
    """What the others hear in place of a result of the main rank."""

    exit_code: int


@dataclass(frozen=True)
class Ranks:
    """This process among the ``size`` processes of a training. rank: 0 to size - 1.

    patient: the group in which the others wait for the main rank, up to ``MAIN_TIMEOUT``; None: the default
    group, and its timeout.

    >>> alone = Ranks()
    >>> alone.is_main, alone.part(8), bool(alone.all_true(torch.tensor(True)))
    (True, range(0, 8), True)
    >>> Ranks(rank=1, size=4).part(8)
    range(2, 4)
    """

    rank: int = 0
    size: int = 1
    patient: distributed.ProcessGroup | None = field(default=None, compare=False, repr=False)

    @classmethod
    def current(cls) -> Ranks:
        """Those of the default process group; a single rank where none was initialised."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        if _joined is not None:
            return _joined
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

    def check_parts(self, key: str, batch_size: int, unit: int = 1) -> None:
        """Raise ConfigError unless every rank gets the same number of patches, a multiple of ``unit``.

        All ranks find the same; the main one says it.
        """
        whole = self.size * unit
        if batch_size % whole and not self.is_main:
            raise ToldElsewhere(f"{key} cannot be divided", exit_code=ConfigError.exit_code)
        if batch_size % whole:
            each = {1: "the same number of", 2: "an even number of"}.get(unit, f"a multiple of {unit}")
            raise ConfigError(
                f"{key} is {batch_size}, and each of {self.size} processes needs {each} patches",
                next_step=f"pass --set {key}={-(-batch_size // whole) * whole}, or start fewer processes",
            )

    # -- steps ----------------------------------------------------------------------------------------

    def all_true(self, flag: Tensor) -> Tensor:
        """Whether a 0-dim bool holds on every rank; the host does not wait for a CUDA device."""
        if self.size == 1:
            return flag
        everywhere = flag.to(torch.uint8)
        distributed.all_reduce(everywhere, op=distributed.ReduceOp.MIN)
        return everywhere.bool()

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the ranks; no gradient."""
        if self.size == 1:
            return values
        total = values.detach().clone()
        distributed.all_reduce(total)
        return total / self.size

    def differentiable_mean(self, values: Tensor) -> Tensor:
        """The mean over the ranks; gradients reach the values of each of them."""
        return values if self.size == 1 else cast(Tensor, _Mean.apply(values, self.size))

    def agree(self, share: float, stop: bool) -> tuple[float, bool]:
        """The main rank's share of the run, and whether any rank is to stop."""
        if self.size == 1:
            return share, stop
        said = torch.tensor([share if self.is_main else 0.0, float(stop)], dtype=torch.float64)
        distributed.all_reduce(said)
        agreed, stops = said.tolist()
        return agreed, stops > 0

    def gathered(self, values: Sequence[T]) -> list[T]:
        """What the ranks have, each value once, in their order; values can be pickled and hashed."""
        if self.size == 1:
            return list(dict.fromkeys(values))
        lists: list[Any] = [None] * self.size
        distributed.all_gather_object(lists, list(values), group=self.patient)
        return list(dict.fromkeys(value for each in lists for value in each))

    # -- the main rank --------------------------------------------------------------------------------

    def on_main(self, function: Callable[[], T]) -> T:
        """Call a function on the main rank; all ranks get its result, which can be pickled.

        Its error is raised there; the others raise ToldElsewhere.
        """
        if self.size == 1:
            return function()
        if not self.is_main:
            result = self._broadcast(None)
            if isinstance(result, _Failure):
                raise ToldElsewhere("the main rank failed", exit_code=result.exit_code)
            return cast(T, result)
        try:
            outcome = function()
        except BaseException as error:
            self._broadcast(_Failure(error.exit_code if isinstance(error, DeflowError) else 1))
            raise
        self._broadcast(outcome)
        return outcome

    def check_same(self, value: str, name: str, next_step: str) -> None:
        """Raise ConfigError on the ranks whose value differs from the main rank's."""
        if self.on_main(lambda: value) != value:
            raise ConfigError(f"rank {self.rank}: {name} are not those of rank 0", next_step=next_step)

    def _broadcast(self, value: Any) -> Any:
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=self.patient, device=torch.device("cpu"))
        return box[0]


_joined: Ranks | None = None


def set_joined(ranks: Ranks | None) -> None:
    """Make ``Ranks.current()`` return these; None: those of the default process group."""
    global _joined
    _joined = ranks


class _Mean(torch.autograd.Function):
    """The mean over the ranks. Its gradient is the mean of the ranks' gradients, as that of their losses."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, size: int) -> Tensor:
        ctx.size = size
        total = values.detach().clone()
        distributed.all_reduce(total)
        return total / size

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total / ctx.size, None
