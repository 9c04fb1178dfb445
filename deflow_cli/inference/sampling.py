"""Sampling: one image in, any number of degraded or restored ones out, of any size and in any tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.errors import DeflowError, DeviceError, ShapeError, is_out_of_memory, memory_asked
from deflow_cli.inference.positional_noise import PositionalNoise, stable_generator
from deflow_cli.inference.precision import exact_convolutions
from deflow_cli.inference.tiling import (
    SMALLEST_TILE,
    around,
    flow_tile_side,
    flow_tile_sides,
    memory_budget,
    overlaps,
    round_up,
    tiles,
)
from deflow_cli.inference.windows import Change, Encoding, Recorder, WindowFlow
from deflow_cli.layers.networks.resize import pad_to_multiple
from deflow_cli.models.deflow.grain import GUIDE_SCALE, KERNEL_SIDE, correlated
from deflow_cli.models.deflow.model import CLEAN, DEGRADED, DeFlow
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

    def guide(self, window: Window, device: torch.device | str = "cpu") -> Tensor:
        """Standard normals at the resolution of the grain's guide: 1 H W."""
        return self._image.normal("guide", 1, *_place(window), device)[0]

    def grain(self, sample: int, channels: int, window: Window, device: torch.device | str = "cpu") -> Tensor:
        """White noise of one sample's stationary pattern, and ``KERNEL_SIDE`` - 1 more for its filter."""
        top, left, height, width = _place(window)
        more = KERNEL_SIDE - 1
        return self._shift.normal(
            f"grain sample {sample}", channels, top, left, height + more, width + more, device
        )

    def level(self, sample: int) -> float:
        """A standard normal, of which the noise level of one sample follows."""
        return float(stable_generator(self._shift.seed, self._shift.key, "level", sample).standard_normal())


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


@dataclass(frozen=True)
class _Run:
    """A call of ``Translator.translate``. side, across: height and width of a tile, 0: the whole image.

    temperature_b and component_bs are on the device, component_bs for all samples of each image. gain: of the
    grain, B 1 H W; None where none is drawn. finite: one flag per piece that was not checked yet.
    """

    image: Window
    job: Job
    samples: Sequence[int]
    write: Write
    temperature_b: Tensor
    component_bs: Tensor
    gain: Tensor | None
    side: int
    across: int
    finite: list[Tensor]


class Translator:
    """Runs a model over images of any size. tile: side of a tile in pixels; None: chosen by memory, 0: none.

    Features are computed once per tile and serve encoding, decoding and all samples. All noise belongs to
    absolute positions, so tiles do not show. On CUDA all tiles of an image have windows of one size, whose
    computation a ``recorder`` makes CUDA graphs that serve all samples and images; None: no graphs. free:
    bytes of a CPU's memory that are free, of which tiles take half; None: enough. When memory runs out, tiles
    are halved. Raises DeviceError when even the smallest does not fit.
    """

    def __init__(
        self,
        model: DeFlow,
        device: torch.device | str = "cpu",
        tile: int | None = None,
        recorder: Recorder | None = None,
        free: int | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.tile = tile
        self._free = free
        self._windows = WindowFlow(self.model, recorder)
        self._budget: int | None = None
        self._stationary = False  # whether the grain's pattern is; asked of the device once per image
        self._one_size = self.device.type == "cuda"  # of windows; on a CPU the outer ones are smaller

    @torch.no_grad()
    def translate(self, image_bchw: Tensor, job: Job, samples: Sequence[int], write: Write) -> None:
        """Compute the given samples of every image and hand them out piece by piece, unclamped.

        image_bchw: float32 in [0, 1], any size. Pieces come tile by tile; when memory runs out, some come
        again from smaller tiles. Raises DeflowError where the model's values are not finite; on CUDA it may
        do so after all pieces were handed out, so that the host does not wait for each.
        """
        padded = self._padded(image_bchw).to(self.device)
        height, width = padded.shape[-2:]
        side, across = self._sides(height, width)
        image = Window(0, 0, *image_bchw.shape[-2:])
        draws = self._draws(job, samples)
        self._windows.check_weights()
        with exact_convolutions(self.device):
            h, gain = self._conditioning(padded, job), self._gain(padded, job)
            while True:
                run = _Run(image, job, samples, write, *draws, gain, side, across, [])
                try:
                    for tile in tiles(height, width, side, across):
                        self._translate_tile(padded, h, tile, run)
                    self._check_finite(run.finite, job)
                    return
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    self._windows.clear()
                    side = across = self._halved(max(side, across) or max(height, width), error)

    @torch.no_grad()
    def encode(self, image_bchw: Tensor, job: Job) -> Encoding:
        """What all samples of a batch of images share; whole, so for crops rather than pictures."""
        padded = self._padded(image_bchw)
        whole = Window(0, 0, *padded.shape[-2:])
        with exact_convolutions(self.device):
            h = self._conditioning(padded, job)
            conditions = self._windows.conditions(h, whole, whole)
            x = self._noisy(padded, whole, job)
            latents, _ = self.model.encode_conditioned(x, conditions)
            return Encoding(latents, conditions, self._gain(padded, job))

    @torch.no_grad()
    def sample(self, encoding: Encoding, size: tuple[int, int], job: Job, sample: int = 0) -> Tensor:
        """One sample of each encoded image (B C H W, unclamped). size: height and width of the images.

        Raises DeflowError where the model's values are not finite.
        """
        whole = Window(0, 0, *(round_up(side, self.model.size_multiple) for side in size))
        temperature_b, component_bs = self._draws(job, [sample])
        with exact_convolutions(self.device):
            change = self._change(job, whole, sample, temperature_b, component_bs[:, sample], encoding.gain)
            y = change(self.model, encoding)
            if encoding.gain is not None:
                y = self._grained(
                    y, lambda change: change(self.model, encoding), change, encoding.gain, job, whole, sample
                )
            y = y[(..., *Window(0, 0, *size).slices)]
            self._check_finite([torch.isfinite(y).all()], job)
            return y

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
                conditions = self._windows.conditions(h, whole, whole)
                x = self._noisy(piece, window, job)
                result.append(self.model.encode_conditioned(x, conditions)[0])
        return result

    def own_component(self, image_bchw: Tensor, noise: ImageNoise, gray_levels: int = 255) -> int:
        """The component that best explains one degraded image (1 C H W)."""
        if self.model.prior.components == 1:
            return 0
        crops_of_image = self.crop_latents(image_bchw, noise, gray_levels)
        return int(responsibilities(self.model.prior, crops_of_image).argmax())

    # -- one tile -------------------------------------------------------------------------------------

    def _translate_tile(self, padded: Tensor, h: Tensor | None, tile: Window, run: _Run) -> None:
        shown = Window(
            tile.top,
            tile.left,
            min(tile.height, run.image.height - tile.top),
            min(tile.width, run.image.width - tile.left),
        )
        if shown.height <= 0 or shown.width <= 0:
            return
        window, seen = self._around(tile, run, *padded.shape[-2:])
        x = self._noisy(padded[(..., *window.slices)], window, run.job)
        h_seen = None if h is None else h[(..., *seen.divided(self.model.config.flow.downsample).slices)]
        encoded = self._windows.encode(x, h_seen, window, seen)
        gain = None if run.gain is None else run.gain[(..., *window.slices)]
        means: dict[tuple[int, ...], Tensor] = {}  # without grain, which samples of equal components share
        for sample in run.samples:
            component_b = run.component_bs[:, sample]
            change = self._change(run.job, window, sample, run.temperature_b, component_b, gain)
            if gain is None:
                y = encoded.decode(change)
            else:
                key = tuple(own[sample] for own in run.job.components)
                if key not in means:  # a recorded decoding writes to the same memory again
                    means = {key: encoded.decode(change).clone()}
                y = self._grained(means[key], encoded.decode, change, gain, run.job, window, sample)
            y = y[(..., *shown.within(window))]
            run.finite.append(torch.isfinite(y).all())
            if self.device.type != "cuda":
                self._check_finite(run.finite, run.job)
            run.write(sample, shown, y)

    def _around(self, tile: Window, run: _Run, height: int, width: int) -> tuple[Window, Window]:
        """What is computed for a tile, and what the encoder sees, which is more, as far as the image goes."""
        for_flow, for_encoder = overlaps(self.model.config)
        if not self._one_size or not run.side:
            window = tile.grown(for_flow, height, width)
            return window, window.grown(for_encoder, height, width)
        whole_tile = Window(tile.top, tile.left, run.side, run.across)  # the last ones are smaller
        window = around(whole_tile, for_flow, height, width)
        return window, around(window, for_encoder, height, width)

    def _check_finite(self, finite: list[Tensor], job: Job) -> None:
        """Raise DeflowError unless all flags are true, and forget them."""
        if finite and not bool(torch.stack(finite).all()):
            raise DeflowError(
                f"the model gives values that are not finite, at temperature {max(job.temperatures):g}",
                next_step="lower --temperature, or fit with flow.scale=bounded",
            )
        finite.clear()

    # -- noise, and what belongs to a sample ----------------------------------------------------------

    def _noisy(self, piece: Tensor, window: Window, job: Job) -> Tensor:
        """Pixels of a window as the flow sees them: with clean statistics, and dequantised."""
        x = piece.to(self.device)
        if job.reverse:
            x = self.model.statistics.to_clean(x)
        noise = [noise.dequantisation(x.shape[1], window, self.device) for noise in job.noises]
        return x + torch.cat(noise) / job.gray_levels

    def _draws(self, job: Job, samples: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Temperatures (B) and components (B x samples up to the last one asked for) on the device."""
        count = max(samples, default=-1) + 1
        temperature_b = torch.tensor(job.temperatures, dtype=torch.float32)
        component_bs = torch.tensor([own[:count] for own in job.components], dtype=torch.int64)
        if self.device.type == "cuda":  # from pinned memory, for which the host does not wait
            temperature_b, component_bs = temperature_b.pin_memory(), component_bs.pin_memory()
        return (
            temperature_b.to(self.device, non_blocking=True),
            component_bs.to(self.device, non_blocking=True),
        )

    def _change(
        self,
        job: Job,
        window: Window,
        sample: int,
        temperature_b: Tensor,
        component_b: Tensor,
        gain: Tensor | None = None,
    ) -> Change:
        """With a gain, u has no noise of its own: it comes as grain, see ``_grained``."""
        noise = None
        if gain is None:
            noise = self._latent_noise(job, window, sample)
        return Change(job.shift, job.reverse, noise, temperature_b, component_b)

    def _latent_noise(self, job: Job, window: Window, sample: int) -> list[Tensor] | None:
        noise = None
        if any(job.temperatures):
            noise = [
                torch.cat(
                    [
                        noise.latent(index, sample, channels, window.divided(factor), self.device)
                        for noise in job.noises
                    ]
                )
                for index, (channels, factor) in enumerate(self.model.flow.latent_plan)
            ]
        return noise

    def _grained(
        self,
        mean_bchw: Tensor,
        decode: Callable[[Change], Tensor],
        change: Change,
        gain_b1hw: Tensor,
        job: Job,
        window: Window,
        sample: int,
    ) -> Tensor:
        """Decoded images of a window with grain: y_0 + T s g n (``models.deflow.grain``).

        mean: y_0, decoded from latents without noise; change: the change that did it.
        """
        grain = self.model.grain
        assert grain is not None
        levels = torch.tensor([noise.level(sample) for noise in job.noises], device=self.device)
        amplitude_b = torch.exp(grain.spread * levels)
        if self._stationary:
            white = torch.cat(
                [noise.grain(sample, mean_bchw.shape[1], window, self.device) for noise in job.noises]
            )
            pattern = correlated(grain.kernel_oiyx, white)
            amplitude_b = amplitude_b * change.temperature_b
        else:
            pattern = decode(change._replace(noise=self._latent_noise(job, window, sample))) - mean_bchw
        return mean_bchw + amplitude_b[:, None, None, None] * gain_b1hw * pattern

    def _gain(self, padded: Tensor, job: Job) -> Tensor | None:
        """The grain's strength over whole images, on the model's device; None where none is drawn."""
        grain = self.model.grain
        if grain is None or job.reverse or not any(job.temperatures) or not bool(grain.matched):
            return None
        self._stationary = bool(grain.stationary)
        whole = Window(0, 0, *padded.shape[-2:]).divided(GUIDE_SCALE)
        noise = torch.cat([noise.guide(whole, self.device) for noise in job.noises])
        return grain.gain(padded.to(self.device), noise)

    def _conditioning(self, padded: Tensor, job: Job) -> Tensor | None:
        """h of the whole image with its noise, on the model's device; None for a model without."""
        if self.model.encoder is None:
            return None
        h = self.model.condition_image(padded.to(self.device), job.domain)
        whole = Window(0, 0, *h.shape[-2:])
        noise = torch.cat([noise.h(h.shape[1], whole, self.device) for noise in job.noises])
        return h + self.model.config.flow.h_noise * noise

    # -- sizes ----------------------------------------------------------------------------------------

    def _padded(self, image_bchw: Tensor) -> Tensor:
        channels = self.model.config.flow.in_channels
        if image_bchw.dim() != 4 or image_bchw.shape[1] != channels or 0 in image_bchw.shape:
            raise ShapeError(
                f"images of shape {tuple(image_bchw.shape)}; expected B x {channels} x H x W, none of them 0"
            )
        return pad_to_multiple(image_bchw, self.model.size_multiple)

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a tile; 0, 0: the whole image."""
        if self.tile is not None:
            side = round_up(self.tile, self.model.size_multiple)
            return side, side
        if self.device.type != "cuda":
            side = flow_tile_side(self.model, height, width, self.device, self._free)
            return side, side
        # Asked once: the memory that earlier images left reserved counts as used.
        self._budget = self._budget or memory_budget(self.device)
        return flow_tile_sides(self.model, height, width, self._budget)

    def _halved(self, side: int, error: Exception) -> int:
        """The next smaller tile, which later images have from the start."""
        if side <= SMALLEST_TILE:
            raise DeviceError(
                f"{self.device}: out of memory even with tiles of {side} pixels{memory_asked(error)}",
                next_step="use --device cpu" if self.device.type == "cuda" else "close other programs",
            ) from error
        if self.device.type == "cuda":
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
