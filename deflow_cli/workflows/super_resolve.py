"""Super-resolve: samples of an SRFlow for every image of a folder, to files and a contact sheet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.arrays import Pixels, Window
from deflow_cli.config.srflow import USUAL_TEMPERATURE, check_temperature
from deflow_cli.data.images.files import Image, read_image, to_pixels, to_tensor, write_image
from deflow_cli.data.images.outputs import PlannedOutput
from deflow_cli.data.images.resize import downsample, rescale
from deflow_cli.errors import ConfigError, DataError, naming
from deflow_cli.inference.positional_noise import LatentNoise
from deflow_cli.inference.sampling.clip_noise import clip_of
from deflow_cli.inference.super_resolving import SampleRequest, SuperResolver, strayed_share
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.reports.contact_sheet import contact_sheet
from deflow_cli.runtime.memory import available_memory
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.image_jobs import Done, Tell, run_images

SHEET_TEMPERATURES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
SHEET_ROWS = 8  # images of a sheet
SHEET_SIDE = 192  # px of an output that a sheet shows, from its middle


@dataclass(frozen=True)
class SpaceOptions:
    """What only a restorer that gives samples is asked for.

    temperature: standard deviation of the latents; None: 0.8. seed: of the samples, with the image's name.
    consistent: each sample is projected onto the images that shrink to the input. sheet: a PNG to write, of
    the samples, or where there is one, of several temperatures. clip: the images of each folder are frames of
    one clip, which share their latents, so that what is made up does not flicker.
    """

    temperature: float | None = None
    samples: int = 1
    seed: int = 0
    consistent: bool = False
    sheet: Path | None = None
    clip: bool = False

    def __post_init__(self) -> None:
        if self.temperature is not None:
            check_temperature(self.temperature)
        if not 1 <= self.samples <= 99:
            raise ConfigError(f"--samples is {self.samples}", next_step="use 1 to 99")
        if self.sheet is not None and self.sheet.suffix.lower() != ".png":
            raise ConfigError(f"--sheet {self.sheet}: a sheet is a PNG", next_step="use a name with .png")

    @property
    def given(self) -> list[str]:
        """The options that were given, as they are written."""
        values = {
            "--temperature": self.temperature is not None,
            "--samples": self.samples != 1,
            "--seed": self.seed != 0,
            "--consistent": self.consistent,
            "--sheet": self.sheet is not None,
        }
        return [name for name, is_given in values.items() if is_given]


@dataclass(frozen=True)
class SpaceRecord:
    """One image's samples. lr_psnr: of the input and each sample made small again, dB, 8 bits.

    strayed: share of the values that left [0, 1] by more than 0.05 before they were clamped, of all samples.
    """

    source: Path
    target: Path
    width: int
    height: int
    seconds: float
    targets: list[Path] = field(default_factory=list)
    lr_psnr: list[float] = field(default_factory=list)
    strayed: float = 0.0


class SpaceJob:
    """Super-resolves files by one model. outscale: size of the outputs over the inputs'."""

    def __init__(
        self,
        model: SRFlow,
        device: torch.device,
        options: SpaceOptions,
        outscale: float,
        tile: int | None,
        tile_pad: int | None,
    ) -> None:
        self.options, self.outscale = options, outscale
        self.temperature = USUAL_TEMPERATURE if options.temperature is None else options.temperature
        self.sampler = SuperResolver(
            model, device, tile=tile, tile_pad=tile_pad, free=available_memory(device)
        )
        self._rows: list[tuple[str, list[Pixels]]] = []

    def run(
        self, planned: Sequence[PlannedOutput], reporter: Reporter, *, skip_existing: bool
    ) -> Done[SpaceRecord]:
        """Write all samples of all images, and the sheet."""
        done = run_images(planned, self._one, reporter, title="restoring", skip_existing=skip_existing)
        if self.options.sheet is not None and self._rows:
            names, rows = zip(*self._rows, strict=True)
            sheet = contact_sheet(list(rows), self._titles(), list(names))
            self.options.sheet.parent.mkdir(parents=True, exist_ok=True)
            write_image(self.options.sheet, Image(sheet))
        return done

    def _one(self, item: PlannedOutput, tell: Tell) -> SpaceRecord:
        """Read, sample and write one image. Raises DeflowError naming the file."""
        started = time.perf_counter()
        image = read_image(item.source)
        height, width = (max(1, int(side * self.outscale + 0.5)) for side in image.pixels.shape[:2])
        x = to_tensor(image.pixels)
        with naming(item.source, but=(DataError,)):
            key = clip_of(item.key) if self.options.clip else item.key
            samples = self._samples(x, key, [self.temperature] * self.options.samples, tell)
            strips = self._for_sheet(x, key, samples)
        lr_psnr, alpha = [], None
        if image.alpha is not None:
            alpha = enlarged_alpha(image.alpha, height, width)
        for target, y in zip(item.targets, samples, strict=True):
            lr_psnr.append(self._lr_psnr(y, image))
            pixels = _enlarged(y, height, width, image.bits)
            write_image(target, replace(image, pixels=pixels, alpha=alpha))
        if self.options.sheet is not None and len(self._rows) < SHEET_ROWS:
            self._rows.append((item.source.stem[:16], strips))
        return SpaceRecord(
            item.source,
            item.targets[0],
            width,
            height,
            time.perf_counter() - started,
            list(item.targets),
            lr_psnr,
            float(np.mean([strayed_share(y) for y in samples])),
        )

    def frame(self, image: Image, key: str) -> NDArray[Any]:
        """One sample of a frame of a video: H x W x 3. key: of the clip."""
        height, width = (max(1, int(side * self.outscale + 0.5)) for side in image.pixels.shape[:2])
        sample = self._samples(to_tensor(image.pixels), key, [self.temperature], lambda share: None)[0]
        return _enlarged(sample, height, width, image.bits)

    def _samples(self, x: Tensor, key: str, temperatures: Sequence[float], tell: Tell) -> list[Tensor]:
        """Samples at temperatures, unclamped: 3 H W each."""
        size = [side * self.sampler.scale for side in x.shape[-2:]]
        result = torch.empty(len(temperatures), x.shape[1], *size)

        def write(index: int, window: Window, piece: Tensor) -> None:
            result[(index, ..., *window.slices)] = piece[0].cpu()

        noise = LatentNoise(self.options.seed, key)
        self.sampler.restore(x, SampleRequest([noise], temperatures), write, tell=tell)
        if self.options.consistent:
            return [self.sampler.projected(y[None].clamp(0, 1), x)[0] for y in result]
        return list(result)

    def _lr_psnr(self, y: Tensor, image: Image) -> float:
        """PSNR of the input and the 8-bit sample made small again by MATLAB's bicubic."""
        small = downsample(to_pixels(y), self.sampler.scale, "matlab").astype(np.float64)
        given = image.pixels / 257.0 if image.bits == 16 else image.pixels.astype(np.float64)
        error = np.square(small - given).mean()
        return float(10 * np.log10(255**2 / max(error, 1e-6)))

    # -- the sheet ------------------------------------------------------------------------------------

    def _titles(self) -> list[str]:
        if self.options.samples > 1:
            return ["input", *(f"sample {i + 1}" for i in range(self.options.samples))]
        return ["input", *(f"T = {temperature:g}" for temperature in SHEET_TEMPERATURES)]

    def _for_sheet(self, x: Tensor, key: str, samples: Sequence[Tensor]) -> list[Pixels]:
        """Middles of the enlarged input and of what the sheet shows of it."""
        if self.options.sheet is None or len(self._rows) >= SHEET_ROWS:
            return []
        shown = list(samples)
        if self.options.samples == 1:
            shown = self._samples(x, key, SHEET_TEMPERATURES, lambda share: None)
        given = to_pixels(x).repeat(self.sampler.scale, 0).repeat(self.sampler.scale, 1)
        return [_middle(pixels) for pixels in (given, *(to_pixels(y) for y in shown))]


def _middle(pixels: Pixels) -> Pixels:
    top, left = (max(side - SHEET_SIDE, 0) // 2 for side in pixels.shape[:2])
    return pixels[top : top + SHEET_SIDE, left : left + SHEET_SIDE]


def _enlarged(y: Tensor, height: int, width: int, bits: int) -> NDArray[Any]:
    """Pixels of a sample, of the size and the depth that are asked for."""
    pixels = to_pixels(y, bits)
    if pixels.shape[:2] == (height, width):
        return pixels
    return whole_numbers(rescale(_unit(y), height, width), bits)


def _unit(y: Tensor) -> NDArray[np.float32]:
    return y.clamp(0, 1).permute(1, 2, 0).numpy()


def enlarged_alpha(alpha: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Enlarged as smoothly as the bicubic does: no network has learned what transparency looks like."""
    bits = 16 if alpha.dtype == np.uint16 else 8
    values = alpha[..., None].astype(np.float32) / (2**bits - 1)
    return whole_numbers(rescale(values, height, width), bits)[..., 0]


def whole_numbers(values: NDArray[np.float32], bits: int) -> NDArray[Any]:
    """[0, 1] to whole numbers: clamped, halves rounded up."""
    whole = np.floor(values.clip(0, 1) * (2**bits - 1) + 0.5)
    return whole.astype(np.uint16 if bits == 16 else np.uint8)
