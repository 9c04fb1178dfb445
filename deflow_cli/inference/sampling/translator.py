"""Translator: one image in, any number of degraded or restored ones out, of any size and in any tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.errors import DeflowError, ShapeError, is_out_of_memory
from deflow_cli.inference.precision import exact_convolutions
from deflow_cli.inference.sampling.draws import JobDraws
from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job
from deflow_cli.inference.tiling import (
    around,
    crops,
    flow_tile_side,
    flow_tile_sides,
    memory_budget,
    overlaps,
    round_up,
    smaller_tile,
    tiles,
)
from deflow_cli.inference.windows import Encoding, Recorder, WindowFlow
from deflow_cli.layers.networks.resize import pad_to_multiple
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution, responsibilities

Write = Callable[[int, Window, Tensor], None]
"""Takes a sample's index, a window of the image, and its pixels there (B C H W on the model's device)."""


@dataclass(frozen=True)
class _Run:
    """A call of ``Translator.translate``. side, across: height and width of a tile, 0: the whole image.

    temperature_b and component_bs are on the device, component_bs for all samples of each image. gain: of the
    grain, B C H W; None where none is drawn. finite: one flag per piece that was not checked yet.
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
        self._draws = JobDraws(self.model, self.device)
        self._budget: int | None = None
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
        draws = self._draws.temperatures_and_components(job, samples)
        self._windows.check_weights()
        with exact_convolutions(self.device):
            h, gain = self._draws.conditioning(padded, job), self._draws.gain(padded, job)
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
            h = self._draws.conditioning(padded, job)
            conditions = self._windows.conditions(h, whole, whole)
            x = self._draws.noisy(padded, whole, job)
            latents, _ = self.model.encode_conditioned(x, conditions)
            return Encoding(latents, conditions, self._draws.gain(padded, job))

    @torch.no_grad()
    def sample(self, encoding: Encoding, size: tuple[int, int], job: Job, sample: int = 0) -> Tensor:
        """One sample of each encoded image (B C H W, unclamped). size: height and width of the images.

        Raises DeflowError where the model's values are not finite.
        """
        whole = Window(0, 0, *(round_up(side, self.model.size_multiple) for side in size))
        temperature_b, component_bs = self._draws.temperatures_and_components(job, [sample])
        with exact_convolutions(self.device):
            change = self._draws.change(
                job, whole, sample, temperature_b, component_bs[:, sample], encoding.gain
            )
            y = change(self.model, encoding)
            if encoding.gain is not None:
                y = self._draws.grained(
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
                h = self._draws.conditioning(piece, job)
                whole = Window(0, 0, window.height, window.width)
                conditions = self._windows.conditions(h, whole, whole)
                x = self._draws.noisy(piece, window, job)
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
        x = self._draws.noisy(padded[(..., *window.slices)], window, run.job)
        h_seen = None if h is None else h[(..., *seen.divided(self.model.config.flow.downsample).slices)]
        encoded = self._windows.encode(x, h_seen, window, seen)
        gain = None if run.gain is None else run.gain[(..., *window.slices)]
        means: dict[tuple[int, ...], Tensor] = {}  # without grain, which samples of equal components share
        for sample in run.samples:
            component_b = run.component_bs[:, sample]
            change = self._draws.change(run.job, window, sample, run.temperature_b, component_b, gain)
            if gain is None:
                y = encoded.decode(change)
            else:
                key = tuple(own[sample] for own in run.job.components)
                if key not in means:  # a recorded decoding writes to the same memory again
                    means = {key: encoded.decode(change).clone()}
                y = self._draws.grained(means[key], encoded.decode, change, gain, run.job, window, sample)
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
        self.tile = smaller_tile(side, self.model.size_multiple, self.device, error)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return self.tile
