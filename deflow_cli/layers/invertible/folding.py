"""Folding: what follows from weights alone, computed once while they stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class FoldCache(nn.Module):
    """Keeps products of a module's weights in evaluation mode, without gradients, while they do not change.

    Fused optimisers change weights without a trace, so nothing is kept in training mode, nor over a pass with
    gradients in evaluation mode. Copies and pickles are empty; a move or a load empties. A write to
    ``weight.data`` in evaluation mode goes unseen: write to the weight itself, under ``torch.no_grad()``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[Hashable, tuple[tuple[Hashable, ...], Any]] = {}

    def get(self, name: Hashable, weights: Sequence[Tensor], build: Callable[[], T]) -> T:
        """What ``build`` makes of ``weights``, or made of them before."""
        if self.training or torch.is_grad_enabled() or any(weight.is_inference() for weight in weights):
            self._kept.clear()
            return build()
        # other changes in place count up the version; a move to a device or type changes the place
        stamp = tuple((weight.data_ptr(), weight._version, weight.dtype) for weight in weights)
        kept = self._kept.get(name)
        if kept is None or kept[0] != stamp:
            with torch.autocast(weights[0].device.type, enabled=False):  # serves other precisions too
                kept = self._kept[name] = (stamp, build())
        return kept[1]

    def train(self, mode: bool = True) -> FoldCache:
        self._kept.clear()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FoldCache:
        self._kept.clear()  # frees the memory of the device that is left, whose places may be taken again
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._kept.clear()
        super()._load_from_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}
