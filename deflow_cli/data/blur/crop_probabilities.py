"""Where crops are taken from a picture: there where its gradients are strong (KernelGAN's sampling)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from deflow_cli.arrays import Array, Pixels
from deflow_cli.data.images.resize import downsample

_LUMA = np.array([0.299, 0.587, 0.114])
_KEPT = 0.97  # share of a gradient map's values that count as nothing
_FRAME = 5  # px along the edges without gradients
_SMOOTH = 5  # px, side of the mean over the map


def gradient_map(pixels_hwc: Pixels) -> Array:
    """How much there is to see around each pixel: float64 H x W of mean 1; all zero for a flat picture.

    The strongest 3 % of the horizontal, the vertical and the whole gradient of the luma, each above its
    97th percentile and clipped at the next value, added with equal shares, and a mean over 5 x 5.
    """
    luma = pixels_hwc.astype(np.float64) / 255 @ _LUMA
    vertical, horizontal = np.gradient(luma)
    parts = [_strongest(np.abs(part)) for part in (horizontal, vertical, np.hypot(horizontal, vertical))]
    mixed: Array = sum((part / total for part in parts if (total := part.sum()) > 0), np.zeros(luma.shape))
    smooth = ndimage.uniform_filter(mixed, _SMOOTH, mode="constant")
    mean = smooth.mean()
    return np.asarray(smooth / mean if mean > 0 else smooth)


def _strongest(values: Array) -> Array:
    """Values above the 97th percentile, clipped at the next greater one, less the percentile."""
    inner = np.zeros_like(values)
    frame = (slice(_FRAME, -_FRAME),) * 2
    inner[frame] = values[frame]
    ranked = np.sort(inner, axis=None)
    place = min(int(_KEPT * ranked.size), ranked.size - 2)
    low, high = ranked[place], ranked[place + 1]
    if high <= low:
        high = low + 1e-5
    return np.clip(inner, low, high) - low


def crop_probabilities(gradients: Array, size: int) -> Array:
    """The probability of each pixel to be the centre of a crop of ``size`` px: float64 H x W, sum 1.

    The map's mean over half a crop, zero within half a crop of the edges; uniform where that leaves nothing.
    """
    half = size // 2
    mean = ndimage.uniform_filter(gradients, half, mode="constant")
    inside = np.zeros_like(mean)
    frame = (slice(half, -half),) * 2
    inside[frame] = np.maximum(mean[frame], 0)
    total = inside.sum()
    return np.asarray(inside / total if total > 0 else np.full(mean.shape, 1 / mean.size))


def large_crop_probabilities(pixels_hwc: Pixels, size: int) -> Array:
    """``crop_probabilities`` of the gradients that are left at half the size, as the generator sees them."""
    small = downsample(pixels_hwc, 2)
    map_ = gradient_map(small).repeat(2, axis=0).repeat(2, axis=1)
    return crop_probabilities(map_, size)


def draw_corners(probabilities: Array, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` top left corners (y, x) of crops that lie inside, at even places: int64 count x 2."""
    height, width = probabilities.shape
    centres = rng.choice(probabilities.size, count, p=probabilities.ravel())
    corners = np.stack(np.divmod(centres, width), axis=1) - size // 2
    corners = np.clip(corners, 0, [height - size, width - size])
    return np.asarray(corners // 2 * 2, dtype=np.int64)
