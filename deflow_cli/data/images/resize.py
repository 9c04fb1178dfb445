"""MATLAB's bicubic resizing of pixel arrays, to any size.

The weights are defined here once (``resize_weights``). By whole factors ``downsample`` calls
``bicubic_downsample`` of the layers, which is differentiable and runs on any device: its weights are those of
torch's antialiased bicubic. The two differ by rounding alone, up to 7e-16 in [0, 1], and give the same whole
numbers, but neither can replace the other without changing the last bits in float64.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deflow_cli.errors import ConfigError
from deflow_cli.layers.networks.resize import Rounding, bicubic_downsample

Rule = Literal["matlab", "deflow", "matlab-double"]
RULES: tuple[Rule, ...] = ("matlab", "deflow", "matlab-double")
ROUNDING: dict[Rule, Rounding] = {"matlab": "half-up", "deflow": "half-even", "matlab-double": "none"}


def _round(values: NDArray[np.float64], rounding: Rounding, top: int) -> NDArray[np.float64]:
    if rounding == "none":
        return values
    rounded = np.floor(values + 0.5) if rounding == "half-up" else np.rint(values)
    return np.clip(rounded, 0, top)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic kernel with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def resize_weights(size: int, factor: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Source indices and weights, each ceil(size / factor) x taps, of MATLAB's bicubic along one axis.

    The kernel is stretched by the factor when that is above 1; edges are mirrored, edge pixel repeated.
    """
    out = math.ceil(size / factor - 1e-9)
    stretch = max(factor, 1.0)
    width = 4 * stretch
    centre = (np.arange(1, out + 1) * factor + 0.5 * (1 - factor))[:, None]
    index = np.floor(centre - width / 2) + np.arange(math.ceil(width) + 2)[None]
    weights = _cubic((centre - index) / stretch)
    weights /= weights.sum(1, keepdims=True)
    wrapped = (index.astype(np.int64) - 1) % (2 * size)
    return np.where(wrapped < size, wrapped, 2 * size - 1 - wrapped), weights


def _apply_axis(values: NDArray[np.float64], factor: float, axis: int) -> NDArray[np.float64]:
    index, weights = resize_weights(values.shape[axis], factor)
    moved = np.moveaxis(values, axis, 0)
    total = np.zeros((index.shape[0], *moved.shape[1:]))
    shape = (-1,) + (1,) * (moved.ndim - 1)
    for tap in range(index.shape[1]):
        total += weights[:, tap].reshape(shape) * moved[index[:, tap]]
    return np.moveaxis(total, 0, axis)


def downsample(pixels_hwc: NDArray[Any], factor: float, rule: Rule = "matlab") -> NDArray[Any]:
    """Downsample H x W x C (or H x W) by ``factor`` to ceil(H / factor) x ceil(W / factor).

    ``matlab``: uint8 (or uint16) in and out, floor(x + 0.5) after each axis, as MATLAB's imresize.
    ``deflow``: the same with halves rounded to even. ``matlab-double``: float in and out (float64,
    [0, 1]), no rounding between the axes and no clamp; whole-number pixels are divided by their range.

    Raises ConfigError for an unknown rule, a factor below 1, or a dtype the rule does not take.
    """
    if rule not in RULES:
        raise ConfigError(f"resize rule {rule!r} is unknown", next_step=f"use one of {', '.join(RULES)}")
    if not factor >= 1:
        raise ConfigError(f"downsampling factor {factor} is below 1")
    whole = pixels_hwc.dtype in (np.uint8, np.uint16)
    if rule != "matlab-double" and not whole:
        raise ConfigError(
            f"resize rule {rule} takes uint8 or uint16 pixels, not {pixels_hwc.dtype}",
            next_step="use the rule matlab-double for floating pixels",
        )
    top = int(np.iinfo(pixels_hwc.dtype).max) if whole else 1
    values = pixels_hwc.astype(np.float64)
    rounding = ROUNDING[rule]
    if rule == "matlab-double":
        values /= top
    if float(factor).is_integer() and top <= 255:
        planes = values[..., None] if values.ndim == 2 else values
        tensor = torch.from_numpy(np.ascontiguousarray(planes.transpose(2, 0, 1)))[None]
        result = bicubic_downsample(tensor, int(factor), rounding=rounding)[0].numpy().transpose(1, 2, 0)
        result = result[..., 0] if values.ndim == 2 else result
    else:
        result = _round(_apply_axis(values, factor, 0), rounding, top)
        result = _round(_apply_axis(result, factor, 1), rounding, top)
    return np.ascontiguousarray(result if rule == "matlab-double" else result.astype(pixels_hwc.dtype))


def rescale(values_hwc: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    """Resize H x W x C to height x width x C with ``resize_weights``; float32, neither rounded nor clamped.

    Height first, then width. An axis that keeps its size is returned as it is.

    >>> rescale(np.ones((4, 6, 3)), 8, 3).shape
    (8, 3, 3)
    """
    values = values_hwc.astype(np.float32)
    values = _along_first(values, height)
    return np.ascontiguousarray(_along_first(values.swapaxes(0, 1), width).swapaxes(0, 1))


def _along_first(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    before = values.shape[0]
    if before == size:
        return values
    index, weights = resize_weights(before, before / size)
    taps = index.shape[1]
    rows = np.arange(0, index.size + 1, taps)
    matrix = csr_array((weights.astype(np.float32).ravel(), index.ravel(), rows), shape=(size, before))
    flat = np.ascontiguousarray(values).reshape(before, -1)
    return (matrix @ flat).reshape(size, *values.shape[1:])
