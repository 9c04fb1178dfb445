"""Batches: the batch of a training step, made ahead by threads wherever the steps follow one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

from deflow_cli.data.unpaired import Prefetcher

T = TypeVar("T")


class BatchStream(Generic[T]):
    """Batches by step. ``make(step, size)`` must depend on its arguments alone; threads call it.

    On a CUDA device the prefetched batches lie in page-locked memory, so that copying them there does not
    make the host wait.
    """

    def __init__(self, make: Callable[[int, int], T], size: int, device: torch.device) -> None:
        self._make, self._size, self._pin = make, size, device.type == "cuda"
        self._prefetcher: Prefetcher[T] | None = None
        self._next = 0

    @contextmanager
    def prefetching(self, start_step: int) -> Iterator[None]:
        """Make the batches from ``start_step`` on ahead of their use, until the block ends."""
        self._next = start_step
        with Prefetcher(self._make, start_step, self._size, pin=self._pin) as self._prefetcher:
            yield
        self._prefetcher = None

    def of_step(self, step: int) -> T:
        """The batch of a step. After a restore the prefetched ones are of other steps: it is made afresh."""
        if self._prefetcher is not None and step == self._next:
            self._next += 1
            return next(self._prefetcher)
        return self._make(step, self._size)
