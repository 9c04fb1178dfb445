"""Flat patches: where the content of degraded pictures is weakest, so that their noise can be seen alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Array, Pixels
from deflow_cli.metrics.filters import INTENSITY_BINS, LUMA

MOST = 64  # patches kept of a picture, spread over its brightnesses
_MARGIN = 4  # px along the border, where a 9 x 9 filter sees reflected pixels
_CLIPPED_SHARE = 0.01
_BLUR = 2.0  # px; less lets fine noise decide what is flat, more overlooks texture
_LOW = 0.1  # quantile over a picture's patches that stands for its flattest part
_CONTENT_SHARE = 0.04  # gradient energy always allowed, relative to the noise's energy in the flattest part
_ALLOWED = (0.3, 6.0)  # and its bounds, in grey levels^2 per px^2
_SLACK = 1.5  # gradient energy allowed, relative to what the noise itself brings
_STRONGEST = (
    12.0  # noise energy over the lower quartile of the set beyond which a picture is taken for texture
)
_OUTLIER = 1.6  # energy over the lower quartile at like brightness that betrays fine texture
_LIKE = 24.0  # grey levels


@dataclass(frozen=True)
class PatchGrid:
    """Patches of one picture to choose from, n rows; and what its flattest part is like.

    ``corners`` n x 2 (y, x); ``content``: mean gradient energy after a blur, ``noise``: mean energy of the
    high-passed picture, both in grey levels^2; ``luma``: mean, 0..255. ``content_low``, ``noise_low``: their
    lower deciles over all unclipped patches, NaN without any.
    """

    corners: NDArray[np.int64]
    content: Array
    noise: Array
    luma: Array
    content_low: float
    noise_low: float

    def __len__(self) -> int:
        return len(self.corners)


def patch_means(plane: Array, side: int, stride: int | None = None, margin: int = 0) -> Array:
    """Mean of H x W in every patch of a grid, rows x columns; patch i, j begins at margin + stride (i, j)."""
    stride = stride or side
    total = cv2.integral(np.ascontiguousarray(plane, dtype=np.float64))
    y, x = (np.arange(margin, length - margin - side + 1, stride) for length in plane.shape)
    lower, upper = total[y + side], total[y]
    return (lower[:, x + side] - upper[:, x + side] - lower[:, x] + upper[:, x]) / side**2


def gradient_energy(image: Pixels) -> Array:
    """Squared gradient of the picture blurred by 2 px, summed over channels, grey levels^2 per px^2: H x W.

    White noise of std s brings 0.015 s^2, noise with a grain of 1 px 0.12 s^2, a slope of one level per px 3.
    """
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), _BLUR, borderType=cv2.BORDER_REFLECT_101)
    dy, dx = np.gradient(smooth, axis=(0, 1))
    return np.sum(dx**2 + dy**2, axis=2, dtype=np.float64)


def clipped(image: Pixels) -> Array:
    """One where a channel is 0 or 255: H x W."""
    return ((image == 0) | (image == 255)).any(axis=2).astype(np.float64)


def patch_grid(image: Pixels, residual: Array, side: int, stride: int, most: int = MOST) -> PatchGrid:
    """The flattest patches of a picture by gradient energy, ``most`` in all, as many of each brightness.

    image: uint8 H x W x 3; residual: its high-passed float64 [0, 1] picture. Patches with more than 1 %
    clipped pixels do not count, nor do the outer 4 px. Empty where nothing is left.
    """

    def means(plane: Array) -> Array:
        return patch_means(plane, side, stride, _MARGIN).ravel()

    if min(image.shape[:2]) < side + 2 * _MARGIN:
        nothing = np.empty(0)
        return PatchGrid(np.empty((0, 2), np.int64), nothing, nothing, nothing, np.nan, np.nan)
    usable = means(clipped(image)) <= _CLIPPED_SHARE
    y, x = (np.arange(_MARGIN, length - _MARGIN - side + 1, stride) for length in image.shape[:2])
    corners = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)[usable]
    content = means(gradient_energy(image))[usable]
    noise = means(np.mean((255.0 * residual) ** 2, axis=2))[usable]
    luma = means(image @ LUMA)[usable]
    lows = [float(np.quantile(v, _LOW)) if len(v) else float("nan") for v in (content, noise)]
    bins = intensity_bins(luma)
    ranks = np.empty(len(bins), dtype=np.int64)
    for index in range(INTENSITY_BINS):
        members = np.flatnonzero(bins == index)
        ranks[members[np.argsort(content[members], kind="stable")]] = np.arange(len(members))
    selected = np.sort(np.lexsort((bins, ranks))[:most])
    return PatchGrid(corners[selected], content[selected], noise[selected], luma[selected], lows[0], lows[1])


def intensity_bins(luma: Array) -> NDArray[np.int64]:
    """Which of 16 bins a luma of 0..255 is in."""
    return np.minimum((luma * INTENSITY_BINS / 255.0).astype(np.int64), INTENSITY_BINS - 1)


def choose(grids: Sequence[PatchGrid], fewest: int = 4) -> list[NDArray[np.int64]]:
    """Which patches of each picture of a set show noise rather than content: indices into its grid.

    Noise has a gradient too, in a ratio to its high-passed energy that its spectrum fixes: taken as the
    lower decile, over pictures, of that ratio in their flattest parts. Patches with much more gradient than
    it explains show content. So, it is assumed, do those with 1.6 times the high-passed energy of the
    lower quartile at like brightness in the same picture. The rule is widened until ``fewest`` pictures, or
    all that have patches, have one.

    What is left: measured on photographs under noise of a known law, the high-passed std of the chosen
    patches is too large by 1 to 8 % for white or band-passed noise of 3 grey levels and more, by up to
    15 % for noise blurred by 0.6 px, by a third and more for grain of 1 px and coarser, which texture
    cannot be told from. It is compared between sets alike in scenes better than between unlike ones.
    """
    able = [grid for grid in grids if len(grid)]
    if not able:
        return [np.empty(0, dtype=np.int64) for _ in grids]
    noise = np.maximum([grid.noise_low for grid in able], 1e-3)
    ratio = float(np.quantile(np.array([grid.content_low for grid in able]) / noise, _LOW))
    strongest = _STRONGEST * float(np.quantile(noise, 0.25))
    widening = 1.0
    while True:
        chosen = [_choose(grid, ratio, strongest, widening) for grid in grids]
        if sum(len(found) > 0 for found in chosen) >= min(fewest, len(able)):
            return chosen
        widening *= 2.0


def _choose(grid: PatchGrid, ratio: float, strongest: float, widening: float) -> NDArray[np.int64]:
    if not len(grid):
        return np.empty(0, dtype=np.int64)
    allowed = float(np.clip(_CONTENT_SHARE * grid.noise_low, *_ALLOWED))
    limit = max(allowed, _SLACK * ratio * min(grid.noise_low, strongest))
    flat = np.flatnonzero(grid.content < widening * limit)
    like = np.abs(grid.luma[flat, None] - grid.luma[None, flat]) <= _LIKE
    lower = np.array([np.quantile(grid.noise[flat][row], 0.25) for row in like])
    return flat[grid.noise[flat] <= _OUTLIER * lower] if len(flat) else flat
