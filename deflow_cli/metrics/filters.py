"""Filters: luma, and the high-pass that leaves a picture's noise where its content is flat."""

from __future__ import annotations

import cv2
import numpy as np

from deflow_cli.arrays import Array, Pixels
from deflow_cli.errors import DataError

LUMA = np.array([0.299, 0.587, 0.114])
"""Rec. 601 weights, on gamma-encoded RGB."""

INTENSITY_BINS = 16
_BINOMIAL = np.array([1, 8, 28, 56, 70, 56, 28, 8, 1], dtype=np.float64)[:, None] / 256.0

WHITE_GAIN = float(np.sqrt(1 - 2 * (70 / 256) ** 2 + np.sum(_BINOMIAL**2) ** 2))
"""Std of high-passed white noise over its own: 0.943."""


def gain(frequency_y: Array, frequency_x: Array) -> Array:
    """What the filter makes of an amplitude: 1 - cos(pi fy)^8 cos(pi fx)^8, f in cycles per pixel.

    Zero at f = 0; along an axis 0.33 at 0.1, 0.82 at 0.2, 0.99 at 0.3.
    """
    return 1.0 - np.cos(np.pi * frequency_y) ** 8 * np.cos(np.pi * frequency_x) ** 8


def high_pass(image: Pixels) -> Array:
    """Picture H x W x 3, uint8, minus its 9 x 9 binomial blur, reflected border; float64 on the [0, 1] scale.

    Linear, support 9 x 9, gain as `gain` says. Raises DataError unless the picture is uint8 H x W x 3.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"a picture must be uint8 H x W x 3, got {image.dtype} {image.shape}")
    x = image.astype(np.float64) / 255.0
    return x - cv2.sepFilter2D(x, -1, _BINOMIAL, _BINOMIAL, borderType=cv2.BORDER_REFLECT_101)
