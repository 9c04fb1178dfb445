"""Noise patches: noise cut from flat parts of degraded pictures (Impressionism, NTIRE 2020; RealSR)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.degraders.base import Draw, add_noise, check_draws
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.inference.positional_noise import stable_generator

TRAINING_CROP = (
    128  # px of the clean side, in the published training; a patch covers the crop's degraded side
)


@dataclass(frozen=True)
class NoisePatches:
    """Flat tiles of degraded pictures to draw noise from, each S x S x 3, uint8, mean included."""

    tiles: tuple[NDArray[np.uint8], ...]

    @property
    def side(self) -> int:
        return self.tiles[0].shape[0]

    @classmethod
    def collect(
        cls,
        images: Iterable[NDArray[np.uint8]],
        side: int = 256,
        max_variance: float = 20.0,
        min_mean: float = 0.0,
    ) -> NoisePatches:
        """Collect the flat tiles of degraded pictures H x W x 3, by the rules of the published code.

        The tiles lie at 0, side, 2 side ... below H - side and W - side, so that a tile that would end at the
        border is not looked at. A tile is taken if the population variance of its luma (BT.601, whole numbers
        0..255) is below ``max_variance`` and the mean above ``min_mean``. Raises ConfigError for a side below
        1, and DataError with the smallest variance seen if no tile is taken.
        """
        if side < 1:
            raise ConfigError(f"noise patches of {side} px", next_step="use --patch-size 256, or smaller")
        tiles: list[NDArray[np.uint8]] = []
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
        """A random crop of a random tile, minus each channel's mean: 3 x side x side, [0, 1] scale."""
        tile = self.tiles[int(generator.integers(len(self.tiles)))]
        y, x = (int(generator.integers(self.side - side + 1)) for _ in range(2))
        patch = tile[y : y + side, x : x + side].astype(np.float64) / 255.0
        return np.ascontiguousarray((patch - patch.mean(axis=(0, 1))).transpose(2, 0, 1), dtype=np.float32)


@dataclass(frozen=True)
class NoisePatchDegrader:
    """Covers a picture with noise patches of ``cell`` px side by side, times the temperature.

    The patch of each place is drawn for that place. A picture of ``cell`` px gets a single patch, as each
    training crop does in the published recipe.

    >>> flat = np.random.default_rng(0).integers(97, 104, (65, 65, 3), dtype=np.uint8)
    >>> patches = NoisePatches.collect([flat], side=32)
    >>> len(patches.tiles)
    4
    >>> grey = torch.full((1, 3, 50, 70), 0.5)
    >>> noisy = NoisePatchDegrader.at_scale(patches, scale=4).degrade(grey, [Draw(0, "photo.png")])
    >>> noisy.shape, round(255 * (noisy - grey).abs().max().item())
    (torch.Size([1, 3, 50, 70]), 3)
    """

    patches: NoisePatches
    cell: int

    @classmethod
    def at_scale(cls, patches: NoisePatches, scale: int) -> NoisePatchDegrader:
        """Cells of 128 / scale px, the degraded side of the published training crops.

        Raises ConfigError where the patches are smaller than that.
        """
        cell = TRAINING_CROP // scale
        if patches.side < cell:
            raise ConfigError(
                f"noise patches of {patches.side} px are smaller than the {cell} px needed at scale {scale}",
                next_step=f"use --patch-size {cell} or more",
            )
        return cls(patches, cell)

    def degrade(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        check_draws(image_bchw, draws)
        noise_bchw = torch.zeros(image_bchw.shape)
        for noise, draw in zip(noise_bchw, draws, strict=True):
            for row, top in enumerate(range(0, noise.shape[1], self.cell)):
                for column, left in enumerate(range(0, noise.shape[2], self.cell)):
                    generator = stable_generator(draw.seed, draw.key, "patch", draw.sample, row, column)
                    place = noise[:, top : top + self.cell, left : left + self.cell]
                    patch = torch.from_numpy(self.patches.draw(self.cell, generator))
                    place += draw.temperature * patch[:, : place.shape[1], : place.shape[2]]
        return add_noise(image_bchw, noise_bchw)


def _luma(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
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
