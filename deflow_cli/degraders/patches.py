"""Noise patches: noise cut from flat parts of degraded pictures (Impressionism, NTIRE 2020; RealSR)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deflow_cli.errors import ConfigError, DataError

Pixels = NDArray[np.uint8]

SIDE = 256
MAX_VARIANCE = 20.0
MIN_MEAN = 0.0
TRAINING_CROP = 128  # of the clean side; noise patches are this over the scale


@dataclass(frozen=True)
class NoisePatches:
    """Tiles of noise to draw from: n of S x S x 3, uint8, content and all."""

    tiles: tuple[Pixels, ...]

    @property
    def side(self) -> int:
        return self.tiles[0].shape[0]

    @classmethod
    def collect(
        cls,
        images: Iterable[Pixels],
        side: int = SIDE,
        max_variance: float = MAX_VARIANCE,
        min_mean: float = MIN_MEAN,
    ) -> NoisePatches:
        """Flat tiles of degraded pictures H x W x 3, by the rules of the published code.

        Tiles of ``side`` px at 0, side, 2 side ... below H - side and W - side (a tile that would end at the
        border is not looked at) count if the population variance of their luma (BT.601, whole numbers 0..255)
        is below ``max_variance`` and its mean above ``min_mean``. Raises DataError with the smallest variance
        seen if none counts.
        """
        if side < 1:
            raise ConfigError(f"noise patches of {side} px", next_step="use --patch-size 256, or smaller")
        tiles: list[Pixels] = []
        seen, smallest, largest = 0, np.inf, 0
        for image in images:
            luma = _luma(image)
            largest = max(largest, min(image.shape[:2]))
            for y in range(0, image.shape[0] - side, side):
                for x in range(0, image.shape[1] - side, side):
                    window = luma[y : y + side, x : x + side]
                    mean, variance = float(window.mean()), float(window.var())
                    seen += 1
                    if mean > min_mean:
                        smallest = min(smallest, variance)
                        if variance < max_variance:
                            tiles.append(image[y : y + side, x : x + side].copy())
        if tiles:
            return cls(tuple(tiles))
        raise _nothing_found(side, max_variance, min_mean, seen, smallest, largest)

    def draw(self, side: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """A random crop of a random tile, each channel's mean removed: 3 x side x side, [0, 1] scale."""
        tile = self.tiles[int(generator.integers(len(self.tiles)))]
        y, x = (int(generator.integers(self.side - side + 1)) for _ in range(2))
        patch = tile[y : y + side, x : x + side].astype(np.float64) / 255.0
        return np.ascontiguousarray((patch - patch.mean(axis=(0, 1))).transpose(2, 0, 1), dtype=np.float32)


def _luma(image: Pixels) -> Pixels:
    """BT.601 luma in whole numbers, as Pillow's mode L."""
    weighted = image.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    return ((weighted + 32768) >> 16).astype(np.uint8)


def _nothing_found(
    side: int, max_variance: float, min_mean: float, seen: int, smallest: float, largest: int
) -> DataError:
    if seen == 0:
        return DataError(
            f"no noise patch of {side} px: the largest picture's shorter side is {largest} px, and it must be"
            f" more than {side}",
            next_step=f"use --patch-size {max(8, largest // 2)}, or larger pictures",
        )
    if not np.isfinite(smallest):
        return DataError(
            f"none of {seen} patches of {side} px has a mean brightness above {min_mean:g}",
            next_step="use a smaller --patch-mean",
        )
    return DataError(
        f"none of {seen} patches of {side} px has a variance below {max_variance:g}; the least is"
        f" {smallest:.1f}",
        next_step=f"use a smaller --patch-size, or --patch-variance {np.ceil(smallest * 1.5):.0f}",
    )
