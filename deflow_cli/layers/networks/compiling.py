"""Compiling: functions as ``torch.compile`` makes them, each compiled once and shared by all callers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def maybe_compiled(function: Callable[P, T], compiled: bool) -> Callable[P, T]:
    """``function``, or its compiled twin: same arguments, same results to rounding."""
    return _compiled(function) if compiled else function


@functools.cache
def _compiled(function: Callable[P, T]) -> Callable[P, T]:
    return torch.compile(function, dynamic=False)
