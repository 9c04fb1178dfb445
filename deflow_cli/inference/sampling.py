"""Sampling: one image in, any number of degraded or restored ones out, of any size and in any tiles."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.errors import DeflowError, DeviceError, ShapeError
from deflow_cli.inference.positional_noise import PositionalNoise, stable_generator
from deflow_cli.inference.tiling import SMALLEST_TILE, flow_tile_side, overlaps, round_up, tiles
from deflow_cli.layers.networks.upsampled import LevelFeatures
from deflow_cli.models.deflow.model import CLEAN, DEGRADED, Conditions, DeFlow, pad_to_multiple
from deflow_cli.models.deflow.shift import ShiftDistribution, responsibilities

Write = Callable[[int, Window, Tensor], None]
"""Takes a sample's index, a window of the image, and its pixels there (B C H W on the model's device)."""

CROP_SIDE = 128  # pixels; about a training patch, which stands for an image in the mixture's likelihood
CROPS = 16  # of a reference, or of an image that is restored


class ImageNoise:
    """All random fields of one image, by absolute position, drawn on the device that is asked for.

    The noise on h and the dequantisation depend on the image (``key``) alone: every sample, and every seed,
    shares them, so that temperature 0 has nothing random left. The shift's noise depends on ``seed`` too.
    """

    def __init__(self, seed: int, key: str) -> None:
        self._image = PositionalNoise(0, key)
        self._shift = PositionalNoise(seed, key)

    def h(self, channels: int, window: Window, device: torch.device | str = "cpu") -> Tensor:
        """Standard normals at h's resolution."""
        return self._image.normal("h", channels, *_place(window), device)

    def dequantisation(self, channels: int, window: Window, device: torch.device | str = "cpu") -> Tensor:
        """Uniforms in [-0.5, 0.5) at the image's resolution."""
        return self._image.uniform("dequantisation", channels, *_place(window), device)

    def latent(
        self, index: int, sample: int, channels: int, window: Window, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Standard normals e of one latent of one sample, at the latent's resolution."""
        return self._shift.normal(f"latent {index} sample {sample}", channels, *_place(window), device)


def _place(window: Window) -> tuple[int, int, int, int]:
    return window.top, window.left, window.height, window.width


@dataclass(frozen=True)
class Job:
    """What is done to a batch of images of one size.

    noises: per image. components: per image, the component of each sample. temperatures: per image.
    reverse: degraded to clean. gray_levels: the step of dequantisation is 1 / this (255 or 65535).
    """

    shift: ShiftDistribution
    noises: Sequence[ImageNoise]
    components: Sequence[Sequence[int]]
    temperatures: Sequence[float]
    reverse: bool = False
    gray_levels: int = 255

    @property
    def domain(self) -> int:
        """The domain the images come from."""
        return DEGRADED if self.reverse else CLEAN


class Encoding(NamedTuple):
    """Images encoded: latents, finest first, each B C H W, and the conditions of their h."""

    latents: list[Tensor]
    conditions: Conditions


class Translator:
    """Runs a model over images of any size. tile: side of a tile in pixels; None: chosen by memory, 0: none.

    Features are computed once per tile and serve encoding, decoding and all samples. All noise belongs to
    absolute positions, so tiles do not show. Raises DeviceError when even the smallest tile does not fit.
    """

    def __init__(self, model: DeFlow, device: torch.device | str = "cpu", tile: int | None = None) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.tile = tile

    @torch.no_grad()
    def translate(self, image_bchw: Tensor, job: Job, samples: Sequence[int], write: Write) -> None:
        """Compute the given samples of every image and hand them out piece by piece, unclamped.

        image_bchw: float32 in [0, 1], any size. Pieces come tile by tile; when memory runs out, some come
        again from smaller tiles. Raises DeflowError where the model's values are not finite.
        """
        padded = self._padded(image_bchw)
        height, width = padded.shape[-2:]
        side = self._side(height, width)
        image = Window(0, 0, *image_bchw.shape[-2:])
        with exact_convolutions(self.device):
            h = self._conditioning(padded, job)
            while True:
                try:
                    for tile in tiles(height, width, side):
                        self._translate_tile(padded, h, tile, image, job, samples, write)
                    return
                except torch.cuda.OutOfMemoryError as error:
                    side = self._halved(side or max(height, width), error)

    @torch.no_grad()
    def encode(self, image_bchw: Tensor, job: Job) -> Encoding:
        """What all samples of a batch of images share; whole, so for crops rather than pictures."""
        padded = self._padded(image_bchw)
        whole = Window(0, 0, *padded.shape[-2:])
        with exact_convolutions(self.device):
            h = self._conditioning(padded, job)
            conditions = self._conditions(h, whole, whole.height, whole.width)
            return Encoding(self._encode(padded, whole, conditions, job), conditions)

    @torch.no_grad()
    def sample(self, encoding: Encoding, size: tuple[int, int], job: Job, sample: int = 0) -> Tensor:
        """One sample of each encoded image (B C H W, unclamped). size: height and width of the images.

        Raises DeflowError where the model's values are not finite.
        """
        whole = Window(0, 0, *(round_up(side, self.model.size_multiple) for side in size))
        with exact_convolutions(self.device):
            return self._decode(encoding, whole, Window(0, 0, *size), job, sample)

    @torch.no_grad()
    def crop_latents(
        self, image_bchw: Tensor, noise: ImageNoise, gray_levels: int = 255
    ) -> list[list[Tensor]]:
        """Latents of crops spread over one degraded image (1 C H W), each crop an image of its own."""
        padded = self._padded(image_bchw)
        result = []
        with exact_convolutions(self.device):
            for window in crops(padded.shape[-2], padded.shape[-1], self.model.size_multiple):
                piece = padded[(..., *window.slices)]
                job = Job(ShiftDistribution(self.model.prior), [noise], [[0]], [0.0], True, gray_levels)
                h = self._conditioning(piece, job)
                whole = Window(0, 0, window.height, window.width)
                conditions = self._conditions(h, whole, window.height, window.width)
                result.append(self._encode(piece, window, conditions, job))
        return result

    def own_component(self, image_bchw: Tensor, noise: ImageNoise, gray_levels: int = 255) -> int:
        """The component that best explains one degraded image (1 C H W)."""
        if self.model.prior.components == 1:
            return 0
        crops_of_image = self.crop_latents(image_bchw, noise, gray_levels)
        return int(responsibilities(self.model.prior, crops_of_image).argmax())

    # -- one tile -------------------------------------------------------------------------------------

    def _translate_tile(
        self,
        padded: Tensor,
        h: Tensor | None,
        tile: Window,
        image: Window,
        job: Job,
        samples: Sequence[int],
        write: Write,
    ) -> None:
        height, width = padded.shape[-2:]
        window = tile.grown(overlaps(self.model.config)[0], height, width)
        shown = Window(
            tile.top,
            tile.left,
            min(tile.height, image.height - tile.top),
            min(tile.width, image.width - tile.left),
        )
        if shown.height <= 0 or shown.width <= 0:
            return
        conditions = self._conditions(h, window, height, width)
        latents = self._encode(padded[(..., *window.slices)], window, conditions, job)
        for sample in samples:
            write(sample, shown, self._decode(Encoding(latents, conditions), window, shown, job, sample))

    def _decode(self, encoding: Encoding, window: Window, shown: Window, job: Job, sample: int) -> Tensor:
        """The pixels ``shown`` of one sample, from encodings of a window around them."""
        temperature_b = torch.tensor(job.temperatures, dtype=torch.float32, device=self.device)
        component_b = torch.tensor([own[sample] for own in job.components], device=self.device)
        change = job.shift.restore if job.reverse else job.shift.degrade
        noise = self._latent_noise(window, sample, job)
        latents = change(encoding.latents, noise, temperature_b, component_b)
        y = self.model.decode_conditioned(latents, encoding.conditions)[(..., *shown.within(window))]
        if not job.reverse:
            y = self.model.statistics.to_degraded(y)
        if not bool(torch.isfinite(y).all()):
            raise DeflowError(
                f"the model gives values that are not finite, at temperature {max(job.temperatures):g}",
                next_step="lower --temperature, or fit with flow.scale=bounded",
            )
        return y

    def _encode(self, piece: Tensor, window: Window, conditions: Conditions, job: Job) -> list[Tensor]:
        x = piece.to(self.device)
        if job.reverse:
            x = self.model.statistics.to_clean(x)
        noise = [noise.dequantisation(x.shape[1], window, self.device) for noise in job.noises]
        x = x + torch.cat(noise) / job.gray_levels
        return self.model.encode_conditioned(x, conditions)[0]

    def _latent_noise(self, window: Window, sample: int, job: Job) -> list[Tensor] | None:
        if not any(job.temperatures):
            return None
        return [
            torch.cat(
                [
                    noise.latent(index, sample, channels, window.divided(factor), self.device)
                    for noise in job.noises
                ]
            )
            for index, (channels, factor) in enumerate(self.model.flow.latent_plan)
        ]

    # -- conditioning ---------------------------------------------------------------------------------

    def _conditioning(self, padded: Tensor, job: Job) -> Tensor | None:
        """h of the whole image with its noise, on the model's device; None for a model without."""
        if self.model.encoder is None:
            return None
        h = self.model.condition_image(padded.to(self.device), job.domain)
        whole = Window(0, 0, *h.shape[-2:])
        noise = torch.cat([noise.h(h.shape[1], whole, self.device) for noise in job.noises])
        return h + self.model.config.flow.h_noise * noise

    def _conditions(self, h: Tensor | None, window: Window, height: int, width: int) -> Conditions:
        """Conditions of a window; the encoder sees more than the window, as far as the image goes."""
        encoder = self.model.encoder
        if encoder is None or h is None:
            return [None] * len(self.model.flow.layers)
        seen = window.grown(overlaps(self.model.config)[1], height, width)
        factor = self.model.config.flow.downsample
        features = encoder.features(h[(..., *seen.divided(factor).slices)])
        cut = []
        for index, level in enumerate(features):
            scale = 2 ** (index + 1)
            own = level.own[(..., *window.divided(scale).within(seen.divided(scale)))]
            if level.low is None:
                cut.append(LevelFeatures(own))
                continue
            low = level.low[(..., *window.divided(factor).within(seen.divided(factor)))]
            cut.append(LevelFeatures(own, low))
        return self.model.flow.prepare(cut)

    # -- sizes ----------------------------------------------------------------------------------------

    def _padded(self, image_bchw: Tensor) -> Tensor:
        channels = self.model.config.flow.in_channels
        if image_bchw.dim() != 4 or image_bchw.shape[1] != channels or 0 in image_bchw.shape:
            raise ShapeError(
                f"images of shape {tuple(image_bchw.shape)}; expected B x {channels} x H x W, none of them 0"
            )
        return pad_to_multiple(image_bchw, self.model.size_multiple)

    def _side(self, height: int, width: int) -> int:
        if self.tile is None:
            return flow_tile_side(self.model, height, width, self.device)
        return round_up(self.tile, self.model.size_multiple)

    def _halved(self, side: int, error: Exception) -> int:
        """The next smaller tile, kept for the images to come."""
        if side <= SMALLEST_TILE:
            raise DeviceError(
                f"{self.device}: out of memory even with tiles of {side} pixels", next_step="use --device cpu"
            ) from error
        torch.cuda.empty_cache()
        self.tile = round_up(side // 2, self.model.size_multiple)
        return self.tile


def draw_components(shift: ShiftDistribution, seed: int, key: str, samples: int) -> list[int]:
    """The component of each sample of an image, drawn by (seed, key, sample)."""
    drawn = [stable_generator(seed, key, "component", sample).random() for sample in range(samples)]
    return shift.components_at(drawn)


def crops(height: int, width: int, multiple: int) -> list[Window]:
    """Up to 16 windows of about 128 pixels, spread evenly over an image whose sides are multiples."""
    side = round_up(CROP_SIDE, multiple)
    rows, columns = (_starts(size, side, multiple) for size in (height, width))
    return [Window(top, left, min(side, height), min(side, width)) for top in rows for left in columns]


def _starts(size: int, side: int, multiple: int) -> list[int]:
    if size <= side:
        return [0]
    count = min(-(-size // side), int(CROPS**0.5))
    return [(size - side) * i // (count - 1) // multiple * multiple for i in range(count)]


def exact_convolutions(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """On CUDA: full float32, and the same algorithm in every run; TensorFloat-32 is a hundred times
    coarser than what encoding and decoding through the same layers can hide."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
