"""FoldCache: values computed from weights alone, cached while the weights do not change."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class FoldCache(nn.Module):
    """Caches values computed from a module's weights, in evaluation mode and without gradients.

    Fused optimisers change weights without a trace, so nothing is cached in training mode, and a pass with
    gradients in evaluation mode empties the cache. Copies and pickles carry no cached values; moving or
    loading weights empties the cache. A write to ``weight.data`` in evaluation mode is not noticed: write to
    the weight itself, under ``torch.no_grad()``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cached: dict[Hashable, tuple[tuple[Hashable, ...], Any]] = {}

    def get(self, name: Hashable, weights: Sequence[Tensor], build: Callable[[], T]) -> T:
        """``build()``, or its cached result if ``weights`` have not changed. name: which value it is."""
        if torch.compiler.is_compiling():
            return build()
        if self.training or torch.is_grad_enabled() or any(weight.is_inference() for weight in weights):
            self._cached.clear()
            return build()
        # Changes in place increase the version; a move to another device or type changes the address.
        stamp = tuple((weight.data_ptr(), weight._version, weight.dtype) for weight in weights)
        cached = self._cached.get(name)
        if cached is None or cached[0] != stamp:
            with torch.autocast(
                weights[0].device.type, enabled=False
            ):  # the value serves passes of any precision
                cached = self._cached[name] = (stamp, build())
        return cached[1]

    def cached_values(self) -> list[object]:
        """The values that are cached now; who holds them keeps their memory where it is."""
        return [value for _, value in self._cached.values()]

    def train(self, mode: bool = True) -> FoldCache:
        self._cached.clear()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FoldCache:
        self._cached.clear()  # frees memory on the old device, whose addresses may be reused
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._cached.clear()
        super()._load_from_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached": {}}
