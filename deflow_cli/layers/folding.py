"""Folding: what follows from weights alone, computed once while they stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class FoldCache(nn.Module):
    """Keeps products of a module's weights in evaluation mode, without gradients, while they do not change.

    In training mode nothing is kept: fused optimisers change weights without a trace. Copies and pickles are
    empty.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[Hashable, tuple[tuple[Hashable, ...], Any]] = {}

    def get(self, name: Hashable, weights: Sequence[Tensor], build: Callable[[], T]) -> T:
        """What ``build`` makes of ``weights``, or made of them before."""
        if self.training or torch.is_grad_enabled() or any(weight.is_inference() for weight in weights):
            return build()
        # other changes in place count up the version; a move to a device or type changes the place
        stamp = tuple((weight.data_ptr(), weight._version, weight.dtype) for weight in weights)
        kept = self._kept.get(name)
        if kept is None or kept[0] != stamp:
            kept = self._kept[name] = (stamp, build())
        return kept[1]

    def train(self, mode: bool = True) -> FoldCache:
        self._kept.clear()
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}
