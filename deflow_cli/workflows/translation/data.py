"""Crops that translation networks are trained on: every batch is a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.config.translation import TranslationConfig
from deflow_cli.data.images.image_cache import ImageCache
from deflow_cli.data.images.resize import downsample
from deflow_cli.data.unpaired import Drops, cut_patch, draw_image


class TranslationBatch(NamedTuple):
    """Crops of a step, uint8. inputs: of the generator, B x 3 x S x S. reals: noisy ones, B x 3 x P x P.

    targets: the clean small pictures, B x 3 x P x P, whose content the degraded ones are to keep.
    """

    inputs: Tensor
    targets: Tensor
    reals: Tensor

    def on(self, device: torch.device) -> TranslationBatch:
        """The same on a device, float32 in [0, 1]."""
        return TranslationBatch(*(part.to(device, non_blocking=True).float() / 255 for part in self))


@dataclass(frozen=True)
class CropRecipe:
    """Where the crops of a method come from.

    source: the folder of the generator's inputs. takes_large: whether these are the large crops, and not
    those made small. real_in_large: whether a real crop is cut from a large one of the noisy picture, so that
    noisy pictures must hold one too. For ``source`` noisy both come from one crop.
    """

    source: Literal["clean", "noisy"]
    takes_large: bool = False
    real_in_large: bool = True

    def least_sides(self, config: TranslationConfig) -> tuple[int, int]:
        """Px that clean and noisy pictures have at least."""
        return config.large_side, config.large_side if self.real_in_large else config.patch_size


class TranslationSampler:
    """Random crops for a recipe, without state; item i of a step is drawn by (seed, step, i)."""

    def __init__(
        self,
        clean: ImageCache,
        noisy: ImageCache,
        recipe: CropRecipe,
        config: TranslationConfig,
        *,
        flips: bool,
        seed: int,
    ) -> None:
        self._clean, self._noisy, self._recipe, self._config = clean, noisy, recipe, config
        self._flips, self._seed = flips, seed
        self._drops = Drops()

    @property
    def dropped(self) -> list[tuple[Path, str]]:
        """(path, reason) of images that turned out broken; others were drawn in their place."""
        return self._drops.records

    def batch(self, step: int, size: int) -> TranslationBatch:
        """The crops of a step. Raises DataError where no image is left."""
        items = [self._item(np.random.Generator(np.random.PCG64([self._seed, step, i]))) for i in range(size)]
        return TranslationBatch(*(_stacked([item[part] for item in items]) for part in range(3)))

    def _item(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], ...]:
        recipe, large_side = self._recipe, self._config.large_side
        noisy_side = large_side if recipe.real_in_large else self._config.patch_size
        noisy = self._crop(self._noisy, noisy_side, rng)
        large = noisy if recipe.source == "noisy" else self._crop(self._clean, large_side, rng)
        small = downsample(large, self._config.scale, "matlab")
        (top, left), _ = cut_patch(noisy, self._config.patch_size, 1, False, rng)
        real = noisy[top : top + self._config.patch_size, left : left + self._config.patch_size]
        return large if recipe.takes_large else small, small, real

    def _crop(self, cache: ImageCache, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A random crop, H x W x 3, mirrored at random where that was asked for."""
        _, image = draw_image(cache, side, rng, self._drops)
        (top, left), (vertical, horizontal) = cut_patch(image, side, 1, self._flips, rng)
        crop = image[top : top + side, left : left + side]
        return crop[:: -1 if vertical else 1, :: -1 if horizontal else 1]


def _stacked(crops: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack([np.ascontiguousarray(crop.transpose(2, 0, 1)) for crop in crops]))
