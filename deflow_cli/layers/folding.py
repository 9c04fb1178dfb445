"""Folding: what follows from weights alone, computed once while they stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class FoldCache:
    """Keeps products of a module's weights for as long as the weights do not change.

    With gradients nothing is kept: the products are part of the graph. Copies and pickles are empty.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[tuple[Hashable, ...], Any]] = {}

    def get(self, name: Hashable, weights: Sequence[Tensor], build: Callable[[], T]) -> T:
        """What ``build`` makes of ``weights``, or made of them before."""
        if torch.is_grad_enabled() or any(weight.is_inference() for weight in weights):
            return build()
        # in-place changes count up the version, moves to a device or type change the place
        stamp = tuple((weight.data_ptr(), weight._version, weight.dtype) for weight in weights)
        kept = self._kept.get(name)
        if kept is None or kept[0] != stamp:
            kept = self._kept[name] = (stamp, build())
        return kept[1]

    def __deepcopy__(self, memo: object) -> FoldCache:
        return FoldCache()

    def __reduce__(self) -> tuple[type[FoldCache], tuple[()]]:
        return FoldCache, ()
