"""Super-resolving: any number of large images for a small one by SRFlow, of any size and in any tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.config.editing import Edit
from deflow_cli.config.srflow import SRFlowModelConfig, check_temperature
from deflow_cli.errors import DeflowError, ShapeError, is_out_of_memory
from deflow_cli.inference.editing import edited
from deflow_cli.inference.layerwise_tiling import zoomed
from deflow_cli.inference.positional_noise import LatentNoise
from deflow_cli.inference.precision import exact_convolutions
from deflow_cli.inference.tiling import (
    SMALLEST_TILE,
    flow_bytes_per_pixel,
    memory_budget,
    round_up,
    smaller_tile,
    tiles,
)
from deflow_cli.inference.windows import window_conditions
from deflow_cli.layers.invertible.base import Condition
from deflow_cli.layers.networks.resize import pad_to_multiple
from deflow_cli.models.srflow.enlarging import back_projected
from deflow_cli.models.srflow.model import SRFlow, log_standard_normal

WriteSample = Callable[[int, Window, Tensor], None]
"""Takes a sample's index, a window of the large image, and its pixels there (B C H W, unclamped)."""
Tell = Callable[[float], None]
"""Takes the share of an image that is done, 0 to 1."""

# Overlap around a tile, in pixels of x: what the flow computes beyond the tile, and what the encoder sees
# beyond that. What a pixel depends on in fact ends long before the theoretical reach of 100 and more.
FLOW_OVERLAP = 16
ENCODER_OVERLAP = 16
STRAYED = 0.05  # beyond [0, 1] by which a pixel counts as strayed


@dataclass(frozen=True)
class SampleRequest:
    """Which samples of an image are wanted. temperatures: of each sample, standard deviations of the latents.

    noise: of each image of the batch. truncation: largest absolute value of a standard normal; 0: no limit.
    """

    noise: Sequence[LatentNoise]
    temperatures: Sequence[float]
    truncation: float = 0.0


class _Around(NamedTuple):
    """A tile with its overlap: the window of y, the conditions of the flow there, and what is added to y."""

    window: Window
    conditions: Sequence[Condition | None]
    base: Tensor | float


class SuperResolver:
    """An SRFlow, ready for images of any size. tile: side of a tile in pixels of x; None: by memory, 0: none.

    tile_pad: pixels of x around a tile; None: ``FLOW_OVERLAP``. free: bytes of a CPU's memory that are free,
    of which tiles take half; None: enough. All noise belongs to absolute positions, so tiles differ from the
    whole only by what lies beyond the overlap. Everything that depends on x alone is computed once per tile
    and serves all samples. When memory runs out, tiles are halved. Raises DeviceError where the smallest does
    not fit.
    """

    def __init__(
        self,
        model: SRFlow,
        device: torch.device | str = "cpu",
        *,
        tile: int | None = None,
        tile_pad: int | None = None,
        free: int | None = None,
    ) -> None:
        self.device = torch.device(device)
        self._free = free
        self.model = model.to(self.device).eval()
        self.tile = tile
        self.pad = round_up(FLOW_OVERLAP if tile_pad is None else tile_pad, model.size_multiple)

    @property
    def config(self) -> SRFlowModelConfig:
        """The model's configuration."""
        return self.model.config

    @property
    def scale(self) -> int:
        """Sides of the outputs over those of the inputs."""
        return self.model.scale

    def __call__(self, x_bchw: Tensor) -> Tensor:
        """One sample of each image at the usual temperature, 0.8, as ``sample`` gives it."""
        return self.sample(x_bchw)

    # -- samples --------------------------------------------------------------------------------------

    def sample(
        self,
        x_bchw: Tensor,
        temperature: float = 0.8,
        samples: int = 1,
        *,
        seed: int = 0,
        consistent: bool = False,
    ) -> Tensor:
        """Super-resolutions of images, clamped to [0, 1], on the CPU.

        x_bchw: float32 in [0, 1], any size. Returns B C sH sW, with several samples B n C sH sW. temperature:
        standard deviation of the latents; 0: the one mild image. consistent: each is projected onto the
        images that shrink to x. Image i of the batch has the noise of (seed, i).
        """
        check_temperature(temperature)
        batch, channels, height, width = self._checked(x_bchw)
        size = (height * self.scale, width * self.scale)
        result = torch.empty(samples, batch, channels, *size)

        def write(index: int, window: Window, piece: Tensor) -> None:
            result[(index, ..., *window.slices)] = piece.cpu()

        noise = [LatentNoise(seed, str(index)) for index in range(batch)]
        self.restore(x_bchw, SampleRequest(noise, [temperature] * samples), write)
        if consistent:
            for image in result:
                image.copy_(self.projected(image, x_bchw))
        result.clamp_(0, 1)
        return result[0] if samples == 1 else result.transpose(0, 1)

    @torch.inference_mode()
    def restore(
        self, x_bchw: Tensor, request: SampleRequest, write: WriteSample, *, tell: Tell = lambda share: None
    ) -> None:
        """Compute samples and hand them out tile by tile, unclamped.

        x_bchw: float32 in [0, 1], any size. Tile after tile, all samples of it; when memory runs out, some
        come again from smaller tiles. Raises ShapeError for other channels, DeflowError where values are not
        finite.
        """
        self._checked(x_bchw)
        image = Window(0, 0, *x_bchw.shape[-2:])
        padded = pad_to_multiple(x_bchw, self.model.size_multiple).to(self.device)
        self._in_tiles(padded, lambda tile: self._tile(padded, tile, image, request, write), tell)

    def projected(self, y_bchw: Tensor, x_bchw: Tensor) -> Tensor:
        """Images near y that shrink to x, as far as bicubic enlargement can express it."""
        return back_projected(y_bchw, x_bchw.to(y_bchw), self.scale)

    def _tile(
        self, padded: Tensor, tile: Window, image: Window, request: SampleRequest, write: WriteSample
    ) -> None:
        shown = Window(
            tile.top,
            tile.left,
            min(tile.bottom, image.bottom) - tile.top,
            min(tile.right, image.right) - tile.left,
        )
        if shown.height <= 0 or shown.width <= 0:
            return
        around = self._around(padded, tile)
        for sample, temperature in enumerate(request.temperatures):
            latents = self._latents(request, sample, temperature, around.window)
            y = self.model.flow.decode(latents, around.conditions)[0] + around.base
            piece = y[(..., *zoomed(shown, self.scale).within(around.window))]
            _check_finite(piece, temperature, request.truncation)
            write(sample, zoomed(shown, self.scale), piece)

    def _around(self, padded: Tensor, tile: Window) -> _Around:
        """What the flow needs of x to compute a tile and the overlap around it."""
        height, width = padded.shape[-2:]
        window = tile.grown(self.pad, height, width)
        seen = window.grown(round_up(ENCODER_OVERLAP, self.model.size_multiple), height, width)
        x_seen = padded[(..., *seen.slices)]
        target, outer = zoomed(window, self.scale), zoomed(seen, self.scale)
        conditions = window_conditions(self.model, self.model.encoder_input(x_seen), target, outer)
        base = self.model.base(x_seen)
        return _Around(target, conditions, 0.0 if base is None else base[(..., *target.within(outer))])

    def _in_tiles(
        self, padded: Tensor, work: Callable[[Window], None], tell: Tell = lambda share: None
    ) -> None:
        """Do something to every tile of an image; when memory runs out, again to smaller ones."""
        height, width = padded.shape[-2:]
        side = self._side(height, width)
        while True:
            try:
                windows = list(tiles(height, width, side))
                with exact_convolutions(self.device):
                    for index, tile in enumerate(windows):
                        work(tile)
                        tell((index + 1) / len(windows))
                return
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                failed = side or max(height, width)
                side = self.tile = smaller_tile(failed, self.model.size_multiple, self.device, error)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _latents(
        self, request: SampleRequest, sample: int, temperature: float, target: Window
    ) -> list[Tensor]:
        latents = []
        for index, (channels, factor) in enumerate(self.model.flow.latent_plan):
            place = target.divided(factor)
            if temperature == 0:
                size = (len(request.noise), channels, place.height, place.width)
                latents.append(torch.zeros(size, device=self.device))
                continue
            draws = [noise.draw(index, sample, channels, place, self.device) for noise in request.noise]
            z = torch.cat(draws)
            if request.truncation:
                z = z.clamp(-request.truncation, request.truncation)
            latents.append(temperature * z)
        return latents

    # -- latents, for edits and likelihoods -----------------------------------------------------------

    @torch.inference_mode()
    def encode(self, y_bchw: Tensor, x_bchw: Tensor) -> list[Tensor]:
        """Latents of images y given x, finest first; y has ``scale`` times the sides of x. No noise is added.

        Sides of x that are not multiples of the model's are padded by mirroring; ``decode`` cuts that off.
        """
        self._checked(x_bchw)
        y, x = self._padded_pair(y_bchw, x_bchw)
        shapes = self.model.latent_shapes(*x.shape[-2:])
        latents = [torch.empty((y.shape[0], *shape), device=self.device) for shape in shapes]

        def one(tile: Window) -> None:
            around = self._around(x, tile)
            found = self.model.flow.encode(y[(..., *around.window.slices)] - around.base, around.conditions)[
                0
            ]
            for z, part, (_, factor) in zip(latents, found, self.model.flow.latent_plan, strict=True):
                place = zoomed(tile, self.scale).divided(factor)
                z[(..., *place.slices)] = part[(..., *place.within(around.window.divided(factor)))]

        self._in_tiles(x, one)
        return latents

    @torch.inference_mode()
    def decode(self, latents: Sequence[Tensor], x_bchw: Tensor) -> Tensor:
        """The images of latents given x, unclamped. Raises DeflowError where values are not finite."""
        batch, channels, height, width = self._checked(x_bchw)
        x = pad_to_multiple(x_bchw, self.model.size_multiple).to(self.device)
        y = torch.empty(batch, channels, *(side * self.scale for side in x.shape[-2:]), device=self.device)

        def one(tile: Window) -> None:
            around, place = self._around(x, tile), zoomed(tile, self.scale)
            parts = [
                z[(..., *around.window.divided(factor).slices)].to(self.device)
                for z, (_, factor) in zip(latents, self.model.flow.latent_plan, strict=True)
            ]
            piece = self.model.flow.decode(parts, around.conditions)[0] + around.base
            y[(..., *place.slices)] = piece[(..., *place.within(around.window))]

        self._in_tiles(x, one)
        y = y[..., : height * self.scale, : width * self.scale]
        _check_finite(y, float("nan"), 0.0)
        return y

    @torch.inference_mode()
    def log_prob(self, y_bchw: Tensor, x_bchw: Tensor) -> Tensor:
        """log p(y | x) in nats per image, of y as it is. Sides of x must be multiples of the model's."""
        self._checked(x_bchw)
        y, x = y_bchw.to(self.device), x_bchw.to(self.device)
        with exact_convolutions(self.device):
            latents, log_det = self.model.encode(y, x, self.model.prepare(x))
        return log_standard_normal(latents) + log_det

    def edit(
        self,
        image_bchw: Tensor,
        edit: Edit,
        other_bchw: Tensor | None = None,
        mask_b1hw: Tensor | None = None,
    ) -> Tensor:
        """Images edited through their latents, clamped to [0, 1], on the CPU.

        image_bchw: float32 in [0, 1], any size. other: a second image for each, of the same size. mask: 1
        where the image is edited. Returns B C H W, with several samples B n C H W. Image i of the batch has
        the random numbers of (seed, i). Raises what :func:`deflow_cli.inference.editing.edited` raises.
        """
        results = []
        for row in range(image_bchw.shape[0]):
            given = (None if more is None else more[row : row + 1] for more in (other_bchw, mask_b1hw))
            images = edited(self, edit, image_bchw[row : row + 1], *given, key=str(row)).images
            results.append(torch.cat(images))
        result = torch.stack(results).clamp(0, 1)
        return result[:, 0] if edit.count == 1 else result

    def _padded_pair(self, y_bchw: Tensor, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
        multiple, size = self.model.size_multiple, [side * self.scale for side in x_bchw.shape[-2:]]
        if list(y_bchw.shape[-2:]) != size:
            raise ShapeError(
                f"y has sides {y_bchw.shape[-2]}x{y_bchw.shape[-1]}, x enlarged has {size[0]}x{size[1]}"
            )
        y, x = pad_to_multiple(y_bchw, multiple * self.scale), pad_to_multiple(x_bchw, multiple)
        return y.to(self.device), x.to(self.device)

    # -- sizes ----------------------------------------------------------------------------------------

    def _checked(self, x_bchw: Tensor) -> tuple[int, int, int, int]:
        channels = self.config.srflow.image_channels
        if x_bchw.dim() != 4 or 0 in x_bchw.shape or x_bchw.shape[1] != channels:
            raise ShapeError(
                f"images of shape {tuple(x_bchw.shape)}; expected B x {channels} x H x W, none of them 0"
            )
        batch, _, height, width = x_bchw.shape
        return batch, channels, height, width

    def _side(self, height: int, width: int) -> int:
        if self.tile is not None:
            return round_up(self.tile, self.model.size_multiple)
        pixels = memory_budget(self.device, self._free) // flow_bytes_per_pixel(self.model) // self.scale**2
        if height * width <= pixels:
            return 0
        side = max(math.isqrt(pixels) - 2 * self.pad, SMALLEST_TILE)
        return round_up(side, self.model.size_multiple)


def strayed_share(y_bchw: Tensor) -> float:
    """Share of values that left [0, 1] by more than 0.05, before they are clamped."""
    return float(((y_bchw < -STRAYED) | (y_bchw > 1 + STRAYED)).float().mean())


def _check_finite(piece: Tensor, temperature: float, truncation: float) -> None:
    if bool(torch.isfinite(piece).all()):
        return
    at = "" if math.isnan(temperature) else f", at temperature {temperature:g}"
    step = "lower --temperature" if truncation else "lower --temperature, or draw others with --seed"
    raise DeflowError(f"the model gives values that are not finite{at}", next_step=step)
