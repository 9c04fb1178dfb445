"""Recompute: functions whose inner tensors are not kept for the backward pass, but computed anew there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch.utils.checkpoint import checkpoint

T = TypeVar("T")


def computed_anew(function: Callable[..., T], *inputs: object) -> T:
    """``function(*inputs)``, of which only the inputs are kept. It must have no randomness and no effects."""
    return checkpoint(
        function, *inputs, use_reentrant=False, preserve_rng_state=False, determinism_check="none"
    )
