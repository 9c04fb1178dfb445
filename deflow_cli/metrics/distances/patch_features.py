"""Patch features: natural-scene statistics of the noise in a patch, for distances that need no download."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from deflow_cli.arrays import Array, Pixels
from deflow_cli.errors import DataError
from deflow_cli.metrics.filters import LUMA, high_pass
from deflow_cli.metrics.flat_patches import clipped, gradient_energy, patch_means
from deflow_cli.metrics.nss import mscn

FEATURE_PATCH_SIDE = 64
"""px."""
SHARE = 0.5
"""Of a picture's patches the flattest half is looked at."""
_SCALES = 2
_CLIPPED_SHARE = 0.05
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))
_SOFTENING = 0.5  # grey levels added before a logarithm: below, quantisation decides


def patch_features(
    images: Iterable[Pixels], side: int = FEATURE_PATCH_SIDE, share: float = SHARE
) -> list[Array]:
    """Features of the flattest patches of uint8 pictures H x W x 3: one n x D float64 array per picture.

    Per scale (full, half), of the flattest half of a patch's pixels: log std of the high-passed red, green,
    blue, luma and two colour differences; correlation of luma and of each colour difference with their
    neighbours at six displacements; correlation between channels; shape E|n| / sqrt(E n^2) of luma's
    MSCN coefficients n and of their products with four neighbours (what a generalised Gaussian fit
    inverts) and the products' asymmetry. ``NAMES`` lists them. Zero rows where the picture is smaller
    than a patch or clipped everywhere. Raises DataError unless side is a multiple of 4 of at least 32.
    """
    if side < 32 or side % 4:
        raise DataError(f"patches of {side} px; a multiple of 4 of at least 32 is needed")
    return [_features(image, side, share) for image in images]


def _features(image: Pixels, side: int, share: float) -> Array:
    height, width = (length // side * side for length in image.shape[:2])
    if not height or not width:
        return np.empty((0, len(NAMES)))
    image = np.ascontiguousarray(image[:height, :width])
    energy = gradient_energy(image)
    usable = np.flatnonzero(patch_means(clipped(image), side).ravel() <= _CLIPPED_SHARE)
    order = usable[np.argsort(patch_means(energy, side).ravel()[usable], kind="stable")]
    chosen = np.sort(order[: int(np.ceil(share * len(order)))])
    if not len(chosen):
        return np.empty((0, len(NAMES)))
    columns: list[Array] = []
    for scale in range(_SCALES):
        size = side >> scale
        if scale:
            image, energy = np.asarray(_half(image), dtype=np.uint8), np.asarray(_half(energy))
        columns += _scale_features(image, energy, size, chosen)
    return np.stack(columns, axis=1)


def _half(plane: NDArray[Any]) -> NDArray[Any]:
    """Mean of 2 x 2 pixels."""
    return cv2.resize(plane, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _blocks(plane: Array, side: int, chosen: NDArray[np.int64]) -> Array:
    """H x W -> the chosen patches, n x S x S."""
    rows, columns = plane.shape[0] // side, plane.shape[1] // side
    grid = plane[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return grid.transpose(0, 2, 1, 3).reshape(-1, side, side)[chosen]


def _scale_features(image: Pixels, energy: Array, side: int, chosen: NDArray[np.int64]) -> list[Array]:
    residual = high_pass(image) * 255.0
    flat = _blocks(energy, side, chosen)
    mask = (flat <= np.median(flat, axis=(1, 2), keepdims=True)).astype(np.float64)
    red, green, blue = (_blocks(residual[..., c], side, chosen) for c in range(3))
    luma = _blocks(residual @ LUMA, side, chosen)
    colours = (red - green, blue - green)
    columns = [
        np.log(np.sqrt(_mean(plane**2, mask)) + _SOFTENING) for plane in (red, green, blue, luma, *colours)
    ]
    for plane in (luma, *colours):
        columns += [_correlation(plane, plane, mask, *lag) for lag in _NEIGHBOURS]
    columns += [_correlation(a, b, mask) for a, b in ((red, green), (green, blue), (red, blue))]
    coefficients = mscn(torch.from_numpy(image @ LUMA)[None])[0][0].numpy()
    normalised = _blocks(coefficients, side, chosen)
    columns.append(_shape(normalised, mask))
    for dy, dx in _NEIGHBOURS[:4]:
        here, there, both = _shifted(normalised, normalised, mask, dy, dx)
        product = here * there
        columns += [_shape(product, both), _asymmetry(product, both)]
    return columns


def _mean(plane: Array, mask: Array) -> Array:
    return np.sum(plane * mask, axis=(1, 2)) / np.maximum(np.sum(mask, axis=(1, 2)), 1.0)


def _shifted(first: Array, second: Array, mask: Array, dy: int, dx: int) -> tuple[Array, Array, Array]:
    """Pixels and their neighbours at (dy, dx), dy >= 0, inside the patch, and where both count."""
    height, width = mask.shape[1:]
    here = np.s_[:, : height - dy, max(-dx, 0) : width - max(dx, 0)]
    there = np.s_[:, dy:, max(dx, 0) : width - max(-dx, 0)]
    return first[here], second[there], mask[here] * mask[there]


def _correlation(first: Array, second: Array, mask: Array, dy: int = 0, dx: int = 0) -> Array:
    a, b, both = _shifted(first, second, mask, dy, dx)
    power = _mean(a**2, both) * _mean(b**2, both)
    return _mean(a * b, both) / (np.sqrt(power) + _SOFTENING**2)


def _shape(plane: Array, mask: Array) -> Array:
    return _mean(np.abs(plane), mask) / (np.sqrt(_mean(plane**2, mask)) + 1e-6)


def _asymmetry(plane: Array, mask: Array) -> Array:
    return _mean(plane, mask) / (_mean(np.abs(plane), mask) + 1e-6)


def _names() -> tuple[str, ...]:
    own = [f"log std {plane}" for plane in ("red", "green", "blue", "luma", "red-green", "blue-green")]
    own += [f"{plane} lag {lag}" for plane in ("luma", "red-green", "blue-green") for lag in _NEIGHBOURS]
    own += [f"correlation {pair}" for pair in ("red/green", "green/blue", "red/blue")]
    own.append("MSCN shape")
    for lag in _NEIGHBOURS[:4]:
        own += [f"MSCN product {lag} shape", f"MSCN product {lag} asymmetry"]
    return tuple(f"1/{1 << scale} {name}" for scale in range(_SCALES) for name in own)


NAMES: tuple[str, ...] = _names()
"""What each of the D features is."""
