"""Measuring: all figures about the samples of one image, and their mean distance from the truth as a map."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deflow_cli.arrays import Pixels
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.images.resize import downsample
from deflow_cli.data.samples.matching import MULTIPLE, SampledImage
from deflow_cli.errors import DataError, is_out_of_memory, memory_asked
from deflow_cli.metrics.quality.fidelity import psnr
from deflow_cli.metrics.quality.lpips import Lpips
from deflow_cli.metrics.quality.spatial_lpips import SpatialDistance, SpatialLpips
from deflow_cli.metrics.space.diversity import SampleDistances, centred, windowed_squared_error
from deflow_cli.metrics.space.spread import FEWEST_SAMPLES, SampleSpread

NAN = math.nan


@dataclass(frozen=True)
class SampleFigures:
    """One sample against the truth; NaN for what was not measured.

    lpips: the mean of the spatial map. plain_lpips: as papers print it. squared_error: the mean of the 16x16
    windows. lr_psnr: of the low resolutions. input_psnr: against the input as given.
    """

    path: Path
    lpips: float
    plain_lpips: float
    squared_error: float
    psnr: float
    lr_psnr: float
    input_psnr: float


@dataclass(frozen=True)
class SpaceFigures:
    """All figures about the samples of one image.

    values: by the names of the measures. reasons: why a value is NaN. growth: the diversity score of the
    first sample, of the first two, and so on. ranks: shares of the truth's ranks among the samples. trouble:
    why the image could not be read; it then has no values.
    """

    values: dict[str, float]
    reasons: dict[str, str]
    samples: tuple[SampleFigures, ...] = ()
    growth: tuple[float, ...] = ()
    ranks: tuple[float, ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class Instruments:
    """What images are measured with. lpips: None without weights. scale: None leaves LR-PSNR out."""

    lpips: Lpips | None
    scale: int | None
    device: torch.device


def measure_samples(
    image: SampledImage, instruments: Instruments, tick: Callable[[], None]
) -> tuple[SpaceFigures, Tensor | None]:
    """The figures of an image, and the mean of its samples' distance maps (H x W of the cropped truth).

    The distance is spatial LPIPS where there are weights, else the squared error. tick: called after every
    sample. What cannot be read is told in the figures, without a map.
    """
    try:
        truth = read_rgb8(image.reference)
        low = None if image.low is None or instruments.scale is None else read_rgb8(image.low)
        first = read_rgb8(image.samples[0])
        sides = [min(a, b) // MULTIPLE * MULTIPLE for a, b in zip(truth.shape, first.shape, strict=True)][:2]
        if min(sides) == 0:
            size = f"{truth.shape[1]}x{truth.shape[0]}"
            raise DataError(f"{image.reference}: {size} is smaller than {MULTIPLE}x{MULTIPLE}")
        measuring = _Measuring(truth[: sides[0], : sides[1]], low, instruments)
        with torch.inference_mode():
            for path in image.samples:
                measuring.add(path, read_rgb8(path))
                tick()
            return measuring.figures(), measuring.mean_map()
    except DataError as error:
        return SpaceFigures({}, {}, trouble=str(error)), None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        trouble = f"{image.reference}: too large for the memory of {instruments.device}{memory_asked(error)}"
        return SpaceFigures({}, {}, trouble=trouble), None


class _Measuring:
    """The samples of one image, one after the other."""

    def __init__(self, truth_hwc: Pixels, low_hwc: Pixels | None, instruments: Instruments) -> None:
        self._device, self._scale, self._low = instruments.device, instruments.scale, low_hwc
        self._truth = self._tensor(truth_hwc)
        self._small_truth = None if self._scale is None else self._down(truth_hwc, self._scale)
        self._lpips, self._why_no_lpips = None, "AlexNet's weights are not on this machine"
        if instruments.lpips is not None:
            self._why_no_lpips = instruments.lpips.too_small(*truth_hwc.shape[:2])
            if not self._why_no_lpips:
                self._lpips = SpatialLpips(instruments.lpips, self._truth)
        self._perceptual, self._error = SampleDistances(), SampleDistances()
        self._spread = SampleSpread(self._truth)
        self._samples: list[SampleFigures] = []
        self._sum_hw = torch.zeros(self._truth.shape[1:], dtype=torch.float64, device=self._device)

    def add(self, path: Path, whole_hwc: Pixels) -> None:
        """Raises DataError for a sample that is smaller than the cropped truth."""
        height, width = self._truth.shape[1:]
        pixels = whole_hwc[:height, :width]
        sample = self._tensor(pixels)
        if sample.shape != self._truth.shape:
            size = f"{whole_hwc.shape[1]}x{whole_hwc.shape[0]}"
            raise DataError(f"{path}: {size}, but the first sample is at least {width}x{height}")
        self._spread.add(sample)
        error = windowed_squared_error(sample, self._truth)
        self._error.add(error)
        found = None if self._lpips is None else self._lpips(sample)
        if found is not None:
            self._perceptual.add(found.map_hw)
        self._sum_hw += centred(error, height, width) if found is None else found.map_hw
        self._samples.append(self._figures_of(path, sample, pixels, whole_hwc, found))

    def _figures_of(
        self, path: Path, sample: Tensor, pixels: Pixels, whole_hwc: Pixels, found: SpatialDistance | None
    ) -> SampleFigures:
        lr_psnr = input_psnr = NAN
        if self._scale is not None and self._small_truth is not None:
            small = self._down(pixels, self._scale)
            lr_psnr = _psnr(small, self._small_truth)
            if self._low is not None:
                whole = small if pixels.shape == whole_hwc.shape else self._down(whole_hwc, self._scale)
                low = self._tensor(self._low)
                input_psnr = _psnr(whole, low) if whole.shape == low.shape else NAN
        return SampleFigures(
            path,
            lpips=NAN if found is None else self._perceptual.means[-1],
            plain_lpips=NAN if found is None else found.plain,
            squared_error=self._error.means[-1],
            psnr=_psnr(sample, self._truth),
            lr_psnr=lr_psnr,
            input_psnr=input_psnr,
        )

    def mean_map(self) -> Tensor:
        """The mean distance of the samples at every pixel, float32 H x W."""
        return (self._sum_hw / len(self._samples)).to(torch.float32)

    def figures(self) -> SpaceFigures:
        """All figures of the samples added."""
        ranks = self._spread.ranks()
        distances = self._error if self._lpips is None else self._perceptual
        values = {
            "diversity-error": self._error.score().percent,
            "lr-psnr-mean": _mean(one.lr_psnr for one in self._samples),
            "lr-psnr-worst": min(one.lr_psnr for one in self._samples),
            "input-psnr": _mean(one.input_psnr for one in self._samples),
            "psnr-mean": _mean(one.psnr for one in self._samples),
            "psnr-of-mean": _psnr(self._spread.mean_chw, self._truth),
            "pixel-std": float(self._spread.std_chw.mean()),
            "calibration": 100 * ranks.coverage,
        }
        values |= dict.fromkeys(("diversity", "lpips-mean", "lpips-best"), NAN)
        if self._lpips is not None:
            score = self._perceptual.score()
            values["diversity"] = score.percent
            values["lpips-mean"], values["lpips-best"] = score.mean, score.global_best
        reasons = {name: self._reason(name) for name, value in values.items() if math.isnan(value)}
        growth = tuple(score.percent for score in distances.scores)
        return SpaceFigures(values, reasons, tuple(self._samples), growth, tuple(ranks.shares.tolist()))

    def _reason(self, name: str) -> str:
        """Why a measure has no value."""
        if name == "pixel-std":
            return "a single sample has no spread"
        if name == "calibration":
            return f"{len(self._samples)} samples; the central 80 % need at least {FEWEST_SAMPLES}"
        if name == "input-psnr" and self._low is not None:
            return f"the samples are not {self._scale} times their input's size"
        return (
            self._why_no_lpips if name in ("diversity", "lpips-mean", "lpips-best") else "no scale is known"
        )

    def _down(self, pixels_hwc: Pixels, scale: int) -> Tensor:
        """uint8 3 x h x w, by the rounding of the challenges' tool."""
        return self._tensor(downsample(pixels_hwc, scale, "deflow"))

    def _tensor(self, pixels_hwc: Pixels) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(pixels_hwc.transpose(2, 0, 1))).to(self._device)


def _psnr(a_chw: Tensor, b_chw: Tensor) -> float:
    return float(psnr(a_chw[None], b_chw[None]))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
