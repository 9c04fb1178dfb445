"""Restoring: degraded images of any size through a generator, in tiles where memory is short."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import DeflowError, ShapeError, is_out_of_memory
from deflow_cli.inference.layerwise_tiling import SMALLEST_PIECE, LayerwiseGenerator, MakeGraphs, zoomed
from deflow_cli.inference.precision import exact_convolutions
from deflow_cli.inference.tiling import SMALLEST_TILE, round_up, smaller_tile, tiles
from deflow_cli.layers.networks.resize import pad_to_multiple
from deflow_cli.models.esrgan.generator import RRDBNet

Write = Callable[[Window, Tensor], None]
"""Takes a window of the restored image, and its pixels there (B C H W, unclamped, on the device)."""
Tell = Callable[[float], None]
"""Takes the share of an image that is done, 0 to 1."""

# What a pixel depends on in fact ends before the theoretical reach, 350 pixels with 23 blocks. Largest
# difference to the whole, in grey levels, over five photographs with one cut each: Real-ESRGAN's trained
# x4plus (23 blocks) 34 with an overlap of 10, 14 with 32, 3.2 with 48, 2.0 with 64, 0.34 with 72, 0.18 with
# 80, 0.04 with 96; its anime network (6 blocks) 36, 5.4, 0.37 and 0.006 with 10, 32, 48 and 64; an untrained
# one of 23 blocks 0.001 with 8. Exact where the whole reach is less.
PAD_LIMIT = 96  # trunk pixels
LARGEST_RESTORER_TILE = 4096
DIHEDRAL = range(8)


def trunk_reach(config: RestorerConfig) -> int:
    """How far, in trunk pixels, a change can travel: 15 convolutions per block, the first, and the tail."""
    return 15 * config.blocks + 1 + 3


def overlap(config: RestorerConfig) -> int:
    """Input pixels around a tile that leave no seam, a multiple of the network's."""
    return min(trunk_reach(config), PAD_LIMIT) * config.unshuffle_factor


def bytes_per_pixel(config: RestorerConfig, dtype: torch.dtype) -> int:
    """Memory held at the peak per pixel of the input, by the channel counts, besides the open piece's."""
    cell = config.unshuffle_factor**2
    sum_and_two = config.channels * (4 + 2 * dtype.itemsize)
    sum_and_picture = (
        config.channels * (4 + dtype.itemsize) + 4 * config.image_channels * config.scale**2 * cell
    )
    return math.ceil(1.25 * max(sum_and_two, sum_and_picture) / cell) + 16 * config.image_channels


def automatic_side(
    config: RestorerConfig, height: int, width: int, pad: int, memory: int, dtype: torch.dtype
) -> int:
    """Side of the largest tile that fits into so many bytes; 0 where the whole image does."""
    pixels = memory // bytes_per_pixel(config, dtype)
    if height * width <= pixels:
        return 0
    side = min(max(math.isqrt(pixels) - 2 * pad, SMALLEST_TILE), LARGEST_RESTORER_TILE)
    return round_up(side, config.unshuffle_factor)


def turned(image_bchw: Tensor, variant: int) -> Tensor:
    """One of the eight dihedral variants: quarter turns, from 4 on mirrored before."""
    mirrored = image_bchw.flip(-1) if variant >= 4 else image_bchw
    return mirrored.rot90(variant % 4, (-2, -1))


def turned_back(image_bchw: Tensor, variant: int) -> Tensor:
    """The exact inverse of ``turned``."""
    upright = image_bchw.rot90(-(variant % 4), (-2, -1))
    return upright.flip(-1) if variant >= 4 else upright


class Restorer:
    """Runs a generator over images of any size.

    tile: side in input pixels without the overlap; None: chosen by ``memory`` (bytes), 0: none. tile_pad:
    overlap in input pixels; None: what leaves no seam. dtype: what the convolutions compute in; None:
    float32. tta: the mean over the eight dihedral variants. notify: takes a sentence, once, when memory runs
    out. graphs: makes the CUDA graphs of small images and tiles; None: none are made.

    When memory runs out the tile is halved, for the images to come too. Raises DeviceError when even the
    smallest does not fit.
    """

    def __init__(
        self,
        model: RRDBNet,
        device: torch.device | str = "cpu",
        *,
        tile: int | None = None,
        tile_pad: int | None = None,
        dtype: torch.dtype | None = None,
        tta: bool = False,
        memory: int = 4 << 30,
        notify: Callable[[str], None] = lambda text: None,
        graphs: MakeGraphs | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.config = model.config
        self.tile = tile
        self.tta = tta
        self.memory = memory
        self.notify = notify
        self.graphs = graphs
        self._was_told = False
        pad = overlap(self.config) if tile_pad is None else tile_pad
        self.pad = round_up(pad, self.config.unshuffle_factor)
        self._dtype = dtype or torch.float32
        self._model = model
        self._piece: int | None = None
        self._generators: dict[torch.dtype, LayerwiseGenerator] = {}

    @property
    def scale(self) -> int:
        """Size of the output over the size of the input."""
        return self.config.scale

    def __call__(self, image_bchw: Tensor) -> Tensor:
        """Restore images, float32 in [0, 1], to one tensor on the CPU, clamped to [0, 1]."""
        batch, channels = self._checked(image_bchw)
        height, width = image_bchw.shape[-2:]
        result = torch.empty(batch, channels, height * self.scale, width * self.scale)

        def write(window: Window, piece: Tensor) -> None:
            result[(..., *window.slices)] = piece.clamp(0, 1).to(result)

        self.restore(image_bchw, write)
        return result

    @torch.inference_mode()
    def restore(
        self, image_bchw: Tensor, write: Write, *, precise: bool = False, tell: Tell = lambda share: None
    ) -> None:
        """Restore images and hand them out tile by tile, unclamped.

        image_bchw: float32 in [0, 1], any size; a generator of one channel restores each channel alone.
        precise: in float32 whatever the dtype, as 16-bit images need. When memory runs out, some windows come
        again. Raises ShapeError for other channels, DeflowError where the values are not finite.
        """
        batch, channels = self._checked(image_bchw)
        image = Window(0, 0, *image_bchw.shape[-2:])
        # padded here, so that the cells of the pixel-unshuffle lie as in the whole in every tile and variant
        padded = pad_to_multiple(image_bchw, self.config.unshuffle_factor)
        padded = padded.reshape(-1, self.config.image_channels, *padded.shape[-2:])
        height, width = padded.shape[-2:]
        dtype = torch.float32 if precise else self._dtype
        side = self._side(height, width, dtype)
        while True:
            try:
                windows = list(tiles(height, width, side))
                generator = self._generator(dtype)
                for index, tile in enumerate(windows):
                    part = partial(_part, tell, index, len(windows))
                    shown, piece = self._tile(generator, padded, tile, image, part)
                    write(shown, piece.reshape(batch, channels, *piece.shape[-2:]))
                return
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                side = self._halved(side or max(height, width), error)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()  # here, where the error no longer holds the tile's tensors

    def _tile(
        self, generator: LayerwiseGenerator, padded: Tensor, tile: Window, image: Window, tell: Tell
    ) -> tuple[Window, Tensor]:
        """The window of the output that a tile gives, and its pixels."""
        seen = tile.grown(self.pad, *padded.shape[-2:])
        bottom, right = min(tile.bottom, image.bottom), min(tile.right, image.right)
        shown = Window(tile.top, tile.left, bottom - tile.top, right - tile.left)
        picture = self._picture(generator, padded[(..., *seen.slices)], tell)
        target = zoomed(shown, self.scale)
        piece = picture[(..., *target.within(zoomed(seen, self.scale)))]
        if not bool(torch.isfinite(piece).all()):
            step = (
                "use --fp32" if generator.dtype != torch.float32 else "the model file is damaged, or diverged"
            )
            raise DeflowError("the restorer gives values that are not finite", next_step=step)
        return target, piece

    def _picture(self, generator: LayerwiseGenerator, window_bchw: Tensor, tell: Tell) -> Tensor:
        exact = generator.dtype == torch.float32
        with exact_convolutions(self.device) if exact else contextlib.nullcontext():
            if not self.tta:
                return generator(window_bchw, tell)
            total: Tensor | None = None
            for variant in DIHEDRAL:
                part = partial(_part, tell, variant, len(DIHEDRAL))
                picture = turned_back(generator(turned(window_bchw, variant), part), variant)
                total = picture if total is None else total.add_(picture)
            assert total is not None
            return total / len(DIHEDRAL)

    def _generator(self, dtype: torch.dtype) -> LayerwiseGenerator:
        if dtype not in self._generators:
            model = copy.deepcopy(self._model)  # which stays float32 for the other precision
            self._generators[dtype] = LayerwiseGenerator(model, self.device, dtype, self._piece, self.graphs)
        return self._generators[dtype]

    def _checked(self, image_bchw: Tensor) -> tuple[int, int]:
        channels = self.config.image_channels
        if image_bchw.dim() != 4 or 0 in image_bchw.shape or image_bchw.shape[1] != channels != 1:
            raise ShapeError(
                f"images of shape {tuple(image_bchw.shape)}; expected B x {channels} x H x W, none of them 0"
            )
        return image_bchw.shape[0], image_bchw.shape[1]

    def _side(self, height: int, width: int, dtype: torch.dtype) -> int:
        if self.tile is None:
            return automatic_side(self.config, height, width, self.pad, self.memory, dtype)
        return round_up(self.tile, self.config.unshuffle_factor)

    def _halved(self, side: int, error: Exception) -> int:
        """The next smaller tile, which the images to come use too; pieces shrink with it."""
        self.tile = smaller_tile(side, self.config.unshuffle_factor, self.device, error)
        for generator in self._generators.values():
            generator.clear_graphs()
            self._piece = generator.piece = max(generator.piece // 2, SMALLEST_PIECE)
        if not self._was_told:
            self.notify(
                f"out of memory: going on with tiles of {self.tile} pixels, and smaller ones if need be"
            )
            self._was_told = True
        return self.tile


def _part(tell: Tell, index: int, count: int, share: float) -> None:
    tell((index + share) / count)
