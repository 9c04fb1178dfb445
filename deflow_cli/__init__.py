"""deflow: learn image degradations from two unpaired folders, and apply them; loads nothing until asked."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deflow_cli.workflows.api import fit, load_model

__version__ = "0.1.0"

__all__ = ["__version__", "fit", "load_model"]

_LAZY = {"fit": "deflow_cli.workflows.api", "load_model": "deflow_cli.workflows.api"}


def __getattr__(name: str) -> Any:
    """Import torch and the workflows only when one of the public functions is touched."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
