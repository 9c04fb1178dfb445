"""Pictures: pixels as data URIs, and the difference of two made visible."""

from __future__ import annotations

import base64
import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deflow_cli.arrays import Pixels
from deflow_cli.errors import ShapeError

JPEG_QUALITY = 92


def checked(pixels: Pixels) -> Pixels:
    """uint8 H x W x 3 or H x W, not empty, contiguous. Raises ShapeError for anything else."""
    pixels = np.asarray(pixels)
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not fits or pixels.size == 0:
        raise ShapeError(f"a picture is uint8 H x W x 3 or H x W, got {pixels.dtype} {pixels.shape}")
    return np.ascontiguousarray(pixels)


def data_uri(pixels: Pixels, jpeg_above: int | None = None) -> str:
    """``data:image/png;base64,...``, lossless; as JPEG (q92, 4:4:4) with more than ``jpeg_above`` pixels."""
    pixels = checked(pixels)
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    kind = "png"
    if jpeg_above is not None and pixels.shape[0] * pixels.shape[1] > jpeg_above:
        kind = "jpeg"
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    else:
        image.save(buffer, "PNG")
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def difference_picture(a: Pixels, b: Pixels, gain: float = 4.0) -> Pixels:
    """128 + gain * (a - b), rounded and clamped: uint8 of the pictures' shape (grey beside RGB is RGB).

    Raises ShapeError where the two differ in size.
    """
    a, b = checked(a), checked(b)
    if a.shape[:2] != b.shape[:2]:
        raise ShapeError(
            f"pictures of {a.shape[1]}x{a.shape[0]} and {b.shape[1]}x{b.shape[0]} have no difference"
        )
    if a.ndim != b.ndim:
        a, b = (p[..., None] if p.ndim == 2 else p for p in (a, b))
    difference: NDArray[Any] = a.astype(np.float64) - b.astype(np.float64)
    return np.clip(np.rint(128.0 + gain * difference), 0, 255).astype(np.uint8)


def window_of(error_hw: np.ndarray, side: int) -> tuple[slice, slice]:
    """Rows and columns of the window of at most ``side`` pixels a side that holds the largest sum."""
    height, width = error_hw.shape
    window = min(side, height), min(side, width)
    sums = cv2.integral(error_hw.astype(np.float32))
    y, x = window
    totals = sums[y:, x:] - sums[:-y, x:] - sums[y:, :-x] + sums[:-y, :-x]
    top, left = np.unravel_index(int(totals.argmax()), totals.shape)
    return slice(int(top), int(top) + y), slice(int(left), int(left) + x)
