"""Rescale: pixel arrays to any size, by the weights of MATLAB's bicubic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deflow_cli.data.images.resize import resize_weights


def rescale(values_hwc: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    """H x W x C to height x width x C, float32, neither rounded nor clamped.

    Height first, then width. Where an axis shrinks the kernel is stretched by the factor, so that nothing
    aliases; edges are mirrored, edge pixel repeated. A size that stays is left as it is.
    """
    values = values_hwc.astype(np.float32)
    values = _along_first(values, height)
    return np.ascontiguousarray(_along_first(values.swapaxes(0, 1), width).swapaxes(0, 1))


def _along_first(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    own = values.shape[0]
    if own == size:
        return values
    index, weights = resize_weights(own, own / size)
    taps = index.shape[1]
    rows = np.arange(0, index.size + 1, taps)
    matrix = csr_array((weights.astype(np.float32).ravel(), index.ravel(), rows), shape=(size, own))
    flat = np.ascontiguousarray(values).reshape(own, -1)
    return (matrix @ flat).reshape(size, *values.shape[1:])
