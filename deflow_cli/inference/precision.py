"""Precision on CUDA: where float32 must be exact, and where TensorFloat-32 does no harm."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


def exact_convolutions(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """On CUDA: full float32, and the same algorithm in every run.

    Encoding and decoding pass the same layers in opposite directions. What TensorFloat-32 rounds away in one
    direction, which is a hundred times what float32 rounds, does not come back in the other.
    """
    return _precision(tf32=False) if device.type == "cuda" else contextlib.nullcontext()


def coarse_conditions(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """On CUDA: TensorFloat-32, for what depends on the conditioning image alone.

    Features and conditions are computed once and serve both directions, in which their rounding cancels as
    that of the weights would.
    """
    return _precision(tf32=True) if device.type == "cuda" else contextlib.nullcontext()


@contextlib.contextmanager
def _precision(tf32: bool) -> Iterator[None]:
    """For convolutions by cuDNN and for products of matrices by cuBLAS."""
    matmul = torch.backends.cuda.matmul
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32):
        before = matmul.allow_tf32
        matmul.allow_tf32 = tf32
        try:
            yield
        finally:
            matmul.allow_tf32 = before
