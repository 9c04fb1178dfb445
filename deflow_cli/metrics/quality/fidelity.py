"""PSNR and SSIM: how near a picture is to its reference, in the variants that papers print.

Protocol A (AIM and NTIRE real-world super-resolution, DeFlow): RGB, no border cropped, SSIM with the defaults
of scikit-image. Protocol B (BasicSR, RealSR): border of the scale cropped, SSIM with a Gaussian window, also
on Y.
All on the 0..255 scale in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from deflow_cli.errors import ConfigError, ShapeError
from deflow_cli.metrics.base import Metric, Score
from deflow_cli.metrics.nss import check_images, one_by_one
from deflow_cli.metrics.options import PROTOCOLS, ScorerOptions, SsimWindow
from deflow_cli.metrics.registry import ScorerContext

Color = Literal["rgb", "y"]
PEAK = 255.0
STABILISERS = ((0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2)
UNIFORM_SIDE = 7
GAUSSIAN_SIDE, GAUSSIAN_SIGMA = 11, 1.5
STUDIO_LUMA = (65.481, 128.553, 24.966)
"""BT.601, studio range: Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255."""


def luma_y(images_bchw: Tensor) -> Tensor:
    """Y of BT.601 in studio range (16..235), float64 B x 1 x H x W, unrounded, of RGB on the 0..255 scale."""
    red, green, blue = images_bchw.to(torch.float64).unbind(1)
    return (16.0 + (STUDIO_LUMA[0] * red + STUDIO_LUMA[1] * green + STUDIO_LUMA[2] * blue) / PEAK)[:, None]


def psnr(a_bchw: Tensor, b_bchw: Tensor) -> Tensor:
    """10 log10(255^2 / MSE) in dB over all channels and pixels, float64 B; infinite for identical images."""
    _check_same(a_bchw, b_bchw)
    difference = a_bchw.to(torch.float64) - b_bchw.to(torch.float64)
    return 10.0 * torch.log10(PEAK**2 / difference.square_().mean((1, 2, 3)))


def ssim_uniform(a_bchw: Tensor, b_bchw: Tensor) -> Tensor:
    """SSIM of protocol A, float64 B: 7x7 uniform window, sample covariance, whole windows only, mean over
    the map, then over channels: scikit-image's defaults. NaN where no window fits."""
    return _ssim(a_bchw, b_bchw, _box_mean, UNIFORM_SIDE, UNIFORM_SIDE**2 / (UNIFORM_SIDE**2 - 1))


def ssim_gaussian(a_bchw: Tensor, b_bchw: Tensor) -> Tensor:
    """SSIM of protocol B, float64 B: 11x11 Gaussian window of sigma 1.5, population covariance, whole
    windows only, mean over the map, then over channels (Wang et al., 2004, without its downsampling). NaN
    where no window fits."""
    return _ssim(a_bchw, b_bchw, _gaussian_mean, GAUSSIAN_SIDE, 1.0)


def _ssim(
    a_bchw: Tensor, b_bchw: Tensor, local_mean: Callable[[Tensor], Tensor], side: int, correction: float
) -> Tensor:
    _check_same(a_bchw, b_bchw)
    if min(a_bchw.shape[-2:]) < side:
        return torch.full((len(a_bchw),), math.nan, dtype=torch.float64, device=a_bchw.device)
    values = [
        _channel_ssim(a.to(torch.float64), b.to(torch.float64), local_mean, correction)
        for a, b in zip(a_bchw.unbind(1), b_bchw.unbind(1), strict=True)
    ]
    return torch.stack(values).mean(0)


def _channel_ssim(
    a_bhw: Tensor, b_bhw: Tensor, local_mean: Callable[[Tensor], Tensor], correction: float
) -> Tensor:
    """Only the sum of both variances enters, so one filtering serves the two."""
    c1, c2 = STABILISERS
    mean_a, mean_b = local_mean(a_bhw), local_mean(b_bhw)
    product, squares = mean_a * mean_b, mean_a.square_().add_(mean_b.square_())
    covariance = local_mean(a_bhw * b_bhw).sub_(product).mul_(correction)
    variances = local_mean(a_bhw.square().addcmul_(b_bhw, b_bhw)).sub_(squares).mul_(correction)
    numerator = product.mul_(2).add_(c1).mul_(covariance.mul_(2).add_(c2))
    return numerator.div_(squares.add_(c1).mul_(variances.add_(c2))).mean((-2, -1))


def _box_mean(values_bhw: Tensor) -> Tensor:
    """Mean under each whole 7x7 window; 7 = 4 + 2 + 1, so four additions do per axis, exact for integers."""
    for dim in (-2, -1):
        size = values_bhw.shape[dim]
        two = values_bhw.narrow(dim, 0, size - 1) + values_bhw.narrow(dim, 1, size - 1)
        valid = size - UNIFORM_SIDE + 1
        four = two.narrow(dim, 0, size - 3) + two.narrow(dim, 2, size - 3)
        six = four.narrow(dim, 0, valid) + two.narrow(dim, 4, valid)
        values_bhw = six.add_(values_bhw.narrow(dim, 6, valid))
    return values_bhw.div_(UNIFORM_SIDE**2)


@cache
def _gaussian_taps() -> tuple[float, ...]:
    weights = np.exp(-((np.arange(GAUSSIAN_SIDE) - GAUSSIAN_SIDE // 2) ** 2) / (2 * GAUSSIAN_SIGMA**2))
    return tuple((weights / weights.sum()).tolist())


def _gaussian_mean(values_bhw: Tensor) -> Tensor:
    taps, reach = _gaussian_taps(), GAUSSIAN_SIDE // 2
    for dim in (-2, -1):
        valid = values_bhw.shape[dim] - 2 * reach
        total = values_bhw.narrow(dim, reach, valid) * taps[reach]
        for tap in range(reach):
            mirrored = values_bhw.narrow(dim, GAUSSIAN_SIDE - 1 - tap, valid)
            total.add_(values_bhw.narrow(dim, tap, valid) + mirrored, alpha=taps[tap])
        values_bhw = total
    return values_bhw


def _check_same(a_bchw: Tensor, b_bchw: Tensor) -> None:
    if a_bchw.shape != b_bchw.shape or a_bchw.ndim != 4:
        raise ShapeError(
            f"images {tuple(a_bchw.shape)} and references {tuple(b_bchw.shape)} must be one B x C x H x W"
        )


class _Fidelity:
    """What PSNR and SSIM share: the border cropped and the colour compared."""

    def __init__(self, crop_border: int = 0, color: Color = "rgb") -> None:
        if crop_border < 0:
            raise ConfigError(f"crop border {crop_border} is negative")
        if color not in get_args(Color):
            raise ConfigError(f"colour {color!r} is unknown", next_step="use rgb or y")
        self.crop_border = crop_border
        self.color = color

    def _described(self) -> str:
        """Colour and border, for the metric's variant."""
        color = "Y of BT.601, unrounded" if self.color == "y" else "RGB"
        border = f"{self.crop_border} px of border cropped" if self.crop_border else "no crop"
        return f"{color}, {border}"

    def _pair(self, images_bchw: Tensor, references_bchw: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both in the colour compared; cropped after the conversion, to nothing if they are too small."""
        if references_bchw is None:
            raise ShapeError("references are needed: this metric compares each image with one")
        check_images(images_bchw)
        check_images(references_bchw)
        _check_same(images_bchw, references_bchw)
        border, (height, width) = self.crop_border, images_bchw.shape[-2:]
        rows = slice(border, max(border, height - border))
        columns = slice(border, max(border, width - border))
        a, b = images_bchw[..., rows, columns], references_bchw[..., rows, columns]
        return (luma_y(a), luma_y(b)) if self.color == "y" else (a, b)

    def _too_small(self, images_bchw: Tensor, needed: int) -> str:
        """The reason where the cropped images are smaller than ``needed``, else nothing."""
        height, width = images_bchw.shape[-2:]
        inner = (width - 2 * self.crop_border, height - 2 * self.crop_border)
        if min(inner) >= needed:
            return ""
        cropped = f" less a border of {self.crop_border} px" if self.crop_border else ""
        return f"{width}x{height}{cropped} is smaller than {needed}x{needed}"


class Psnr(_Fidelity):
    """Scores with PSNR in dB, on the images' device; higher is better."""

    @property
    def metric(self) -> Metric:
        """See metrics.base.Metric."""
        return Metric("psnr", "PSNR", True, True, 2, f"{self._described()}, 8 bits", "dB")

    def __call__(self, images_bchw: Tensor, references_bchw: Tensor | None = None) -> list[Score]:
        """One score per pair of uint8 images, infinite for identical ones; NaN if the crop leaves nothing."""
        a, b = self._pair(images_bchw, references_bchw)
        reason = self._too_small(images_bchw, 1)
        return _scores(one_by_one(psnr, a, b), reason)


class Ssim(_Fidelity):
    """Scores with SSIM, on the images' device; higher is better, 1 is identity."""

    def __init__(self, window: SsimWindow = "uniform", crop_border: int = 0, color: Color = "rgb") -> None:
        if window not in get_args(SsimWindow):
            raise ConfigError(f"SSIM window {window!r} is unknown", next_step="use uniform or gaussian")
        super().__init__(crop_border, color)
        self.window = window

    @property
    def metric(self) -> Metric:
        """See metrics.base.Metric."""
        window = (
            "7x7 uniform window, sample covariance"
            if self.window == "uniform"
            else "11x11 Gaussian window of sigma 1.5"
        )
        variant = f"{window}, whole windows, {self._described()}, 8 bits"
        return Metric("ssim", "SSIM", True, True, 4, variant)

    def __call__(self, images_bchw: Tensor, references_bchw: Tensor | None = None) -> list[Score]:
        """One score per pair of uint8 images; NaN with a reason where no window fits."""
        a, b = self._pair(images_bchw, references_bchw)
        uniform = self.window == "uniform"
        reason = self._too_small(images_bchw, UNIFORM_SIDE if uniform else GAUSSIAN_SIDE)
        return _scores(one_by_one(ssim_uniform if uniform else ssim_gaussian, a, b), reason)


def _scores(values: Tensor, reason: str) -> list[Score]:
    if reason:
        return [Score(math.nan, reason)] * len(values)
    return [Score(value) for value in values.tolist()]


def build_psnr(options: ScorerOptions, context: ScorerContext) -> Psnr:
    """PSNR by the options' border and colour."""
    return Psnr(options.border, _color(options))


def build_ssim(options: ScorerOptions, context: ScorerContext) -> Ssim:
    """SSIM by the options' protocol, border and colour."""
    return Ssim(PROTOCOLS[options.protocol].window, options.border, _color(options))


def _color(options: ScorerOptions) -> Color:
    return "y" if options.luma else "rgb"
