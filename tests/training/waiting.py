"""Waiting: operations for which the host would wait for a GPU, found on a CPU as they are dispatched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = {
    "aten::_local_scalar_dense",  # .item(), float(t), bool(t), `if t`
    "aten::item",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::lift_fresh",  # torch.tensor(...): on a GPU a copy from memory that is not pinned
    "aten::_linalg_check_errors",
    "aten::linalg_cholesky",
    "aten::linalg_inv",
    "aten::_linalg_eigh",
    "aten::_linalg_svd",
    "aten::linalg_qr",
}
READS = {"tolist", "numpy", "cpu", "__array__"}
BY_MASK = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


class WouldWait(AssertionError):
    """An operation whose result, or the shape of it, the host must know to go on."""


class _NoReading(TorchFunctionMode):
    """Raises WouldWait at methods that read a CPU's memory without dispatching anything."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__name__", "") in READS:
            raise WouldWait(func.__name__)
        return func(*args, **(kwargs or {}))


class NoWaiting(TorchDispatchMode):
    """Raises WouldWait at such an operation. seen: names of all that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self._reading = _NoReading()

    def __enter__(self) -> NoWaiting:
        self._reading.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._reading.__exit__(*error)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name, parameters = func._schema.name, [argument.name for argument in func._schema.arguments]
        given = dict(zip(parameters, args, strict=False)) | kwargs
        if name in WAITS or given.get("check_errors"):
            raise WouldWait(name)
        if name in BY_MASK and any(_is_mask(index) for index in given["indices"]):
            raise WouldWait(f"{name} by a mask")
        self.seen.add(name)
        return func(*args, **kwargs)


def _is_mask(index: torch.Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def without_waiting(step: Callable[..., Any], seen: list[set[str]]) -> Callable[..., Any]:
    """``step`` as it is, but under NoWaiting; ``seen`` gets the names of what ran."""

    def watched(*args: Any) -> Any:
        with NoWaiting() as mode:
            result = step(*args)
        seen.append(mode.seen)
        return result

    return watched
