"""Translating: images of any size through a network that degrades them, in tiles where it can be cut."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deflow_cli.inference.tiling import memory_budget, round_up, tiles
from deflow_cli.layers.networks.resize import pad_to_multiple
from deflow_cli.models.translation.generators import Generator

FLOATS_PER_CHANNEL = 6  # held at the peak for a pixel and channel, with room: 4.1 were measured of all three
LEAST_TILE = 64  # px of the input


class ImageTranslator:
    """Applies a generator to pictures, B x 3 x H x W in [0, 1].

    Each tile is computed with as many pixels around it as a result can depend on, so that tiles do not change
    it beyond rounding. A generator that takes means over the picture (CycleGAN's) always gets the whole one.
    tile: side in px of the input; None: chosen by memory, 0: none.
    """

    def __init__(
        self, generator: Generator, device: torch.device | str = "cpu", tile: int | None = None
    ) -> None:
        self.generator, self.device, self._tile = generator, torch.device(device), tile

    @property
    def scale(self) -> int:
        """How many times smaller than its picture a result is."""
        return self.generator.scale

    @torch.no_grad()
    def __call__(self, images_bchw: Tensor) -> Tensor:
        """The pictures' degradations, B x 3 x ceil(H / scale) x ceil(W / scale), on their device."""
        height, width = images_bchw.shape[-2:]
        padded = pad_to_multiple(images_bchw.float(), self.generator.multiple)
        results = [self._one(padded[index : index + 1]) for index in range(len(padded))]
        result = torch.cat(results)[..., : -(-height // self.scale), : -(-width // self.scale)]
        return result.clamp(0, 1).to(images_bchw.device)

    def _one(self, image_1chw: Tensor) -> Tensor:
        height, width = image_1chw.shape[-2:]
        radius, multiple = self.generator.radius, self.generator.multiple
        side = 0 if radius is None else self._side(height, width, radius)
        if radius is None or not side:
            return self.generator(image_1chw.to(self.device))
        around = round_up(radius, multiple)
        small = (height // self.scale, width // self.scale)
        result = torch.empty((1, 3, *small), device=self.device)
        for tile in tiles(height, width, round_up(side, multiple)):
            window = tile.grown(around, height, width)
            computed = self.generator(image_1chw[(..., *window.slices)].to(self.device))
            place, computed_place = tile.divided(self.scale), window.divided(self.scale)
            result[(..., *place.slices)] = computed[(..., *place.within(computed_place))]
        return result

    def _side(self, height: int, width: int, radius: int) -> int:
        """The side of the tiles; 0 for the whole picture."""
        if self._tile is not None:
            return self._tile
        floats = FLOATS_PER_CHANNEL * self.generator.config.channels
        pixels = memory_budget(self.device) // (4 * floats)
        if height * width <= pixels:
            return 0
        return max(math.isqrt(pixels) - 2 * radius, LEAST_TILE)
