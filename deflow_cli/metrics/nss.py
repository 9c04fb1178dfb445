"""Natural-scene statistics: grey, MSCN map, half scale and the two fits that NIQE, BRISQUE and PIQE share.

All float64: in float32 the scores change visibly. Formulas follow the releases of LIVE (Mittal et al., 2012).

Snap rule: where a 7x7 neighbourhood is constant, I - mean is zero but for rounding (3e-14), and the
asymmetric fit counts pixels by their sign, so noise of the summation order would be counted as data. MSCN
values below 1e-9 are therefore set to exactly zero. Where no neighbourhood is constant, nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import gamma
from torch import Tensor

from deflow_cli.errors import ShapeError

GRAY = (0.298936021293775, 0.587043074451121, 0.114020904255103)
"""MATLAB's rgb2gray; 0.299, 0.587, 0.114 would move NIQE by up to 0.09 on blurred images."""
SNAP = 1e-9
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Rows, columns: the four neighbours whose products are modelled."""
RADIUS = 3
HALF_TAPS = (-3.0, -9.0, 29.0, 111.0, 111.0, 29.0, -9.0, -3.0)
"""Times 1/256: bicubic (a = -0.5) stretched to scale 0.5, centred between two pixels for every output."""


class AsymmetricFit(NamedTuple):
    """Asymmetric generalised Gaussian of each set of values.

    alpha: the shape, on the grid 0.200, 0.201 ... 10; left, right: RMS of the negative and of the positive
    values; scale: sqrt(G(1/a) / G(3/a)), so that beta = RMS x scale; ratio: G(2/a) / G(1/a), so that the
    mean is (beta right - beta left) x ratio. Where the fit is undefined (no negative or no positive value)
    alpha is 0.2 and left, right or both are NaN.
    """

    alpha: Tensor
    left: Tensor
    right: Tensor
    scale: Tensor
    ratio: Tensor


class SymmetricFit(NamedTuple):
    """Generalised Gaussian: shape on the same grid, and the mean square."""

    alpha: Tensor
    variance: Tensor


def check_images(images_bchw: Tensor) -> None:
    """Raises ShapeError for anything but uint8 B x 3 x H x W with H and W at least 1."""
    if images_bchw.dtype != torch.uint8 or images_bchw.ndim != 4 or images_bchw.shape[1] != 3:
        raise ShapeError(
            f"images must be uint8 B x 3 x H x W, got {images_bchw.dtype} {tuple(images_bchw.shape)}"
        )
    if 0 in images_bchw.shape[2:]:
        raise ShapeError(f"images must have at least one pixel, got {tuple(images_bchw.shape)}")


def one_by_one(function: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """``function`` of whole batches on a GPU; on a CPU of one image at a time, whose maps then stay in the
    cache (a batch of ten takes half as long again) and whose result is bitwise its own."""
    if batches[0].device.type != "cpu":
        return function(*batches)
    return torch.cat([function(*parts) for parts in zip(*(b.split(1) for b in batches), strict=True)])


def matlab_gray(images_bchw: Tensor) -> Tensor:
    """Grey levels float64 B x H x W in 0..255, rounded half away from zero, of uint8 B x 3 x H x W.

    One channel (B x 1 x H x W) is taken as it is.
    """
    values = images_bchw.to(torch.float64)
    if values.shape[1] == 1:
        return values[:, 0]
    red, green, blue = values.unbind(1)
    return torch.floor(red * GRAY[0] + green * GRAY[1] + blue * GRAY[2] + 0.5)


@cache
def _gaussian_taps() -> tuple[float, ...]:
    """Half of the 7-tap Gaussian of sigma 7/6 from the edge to the centre; the whole sums to 1."""
    weights = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * (7 / 6) ** 2))
    return tuple((weights / weights.sum())[: RADIUS + 1].tolist())


def _blur_axis(padded: Tensor, dim: int) -> Tensor:
    """Seven symmetric taps along ``dim``, valid part only."""
    size = padded.shape[dim] - 2 * RADIUS
    taps = _gaussian_taps()
    total = padded.narrow(dim, RADIUS, size) * taps[RADIUS]
    for offset in range(RADIUS):
        pair = padded.narrow(dim, offset, size) + padded.narrow(dim, 2 * RADIUS - offset, size)
        total.add_(pair, alpha=taps[offset])
    return total


def mscn(gray_bhw: Tensor, padding: Literal["replicate", "zeros"] = "replicate") -> tuple[Tensor, Tensor]:
    """Mean-subtracted contrast-normalised map (I - mean) / (sigma + 1), snapped, and local sigma.

    Local mean and sigma under a 7x7 Gaussian of sigma 7/6. padding: NIQE and PIQE replicate the edge,
    BRISQUE puts zeros around. Both results are float64 B x H x W.
    """
    mode = "replicate" if padding == "replicate" else "constant"
    padded = F.pad(gray_bhw[:, None], (RADIUS,) * 4, mode=mode)[:, 0]
    mean = _blur_axis(_blur_axis(padded, -1), -2)
    square = _blur_axis(_blur_axis(padded * padded, -1), -2)
    sigma = square.sub_(mean * mean).abs_().sqrt_()
    values = (gray_bhw - mean).div_(sigma + 1.0)
    return values.masked_fill_(values.abs() < SNAP, 0.0), sigma


def mirror_index(start: int, stop: int, size: int, device: torch.device | None = None) -> Tensor:
    """Positions start .. stop-1 of an axis of ``size``, mirrored at its ends with the edge repeated."""
    wrapped = torch.arange(start, stop, device=device) % (2 * size)
    return torch.where(wrapped < size, wrapped, 2 * size - 1 - wrapped)


def half_scale(gray_bhw: Tensor) -> Tensor:
    """MATLAB's imresize(x, 0.5) in float64: bicubic with antialiasing, ceil(size / 2), neither rounded nor
    clipped, edges mirrored. The 8 taps are the same for every output pixel, odd sizes included."""
    result = gray_bhw
    for dim in (-2, -1):
        size = result.shape[dim]
        half = (size + 1) // 2
        padded = result.index_select(dim, mirror_index(-3, 2 * half + 3, size, result.device))
        even, odd = (
            padded[..., part::2, :] if dim == -2 else padded[..., part::2] for part in (0, 1)
        )  # padded position 2k of output k is tap 0
        result = torch.zeros_like(even.narrow(dim, 0, half))
        for tap, weight in enumerate(HALF_TAPS):
            source = odd if tap % 2 else even
            result.add_(source.narrow(dim, tap // 2, half), alpha=weight / 256)
    return result


class _Tables(NamedTuple):
    """Functions of the shape parameter, tabulated on its grid."""

    alpha: Tensor
    rho: Tensor
    inverse: Tensor
    scale: Tensor
    ratio: Tensor


@cache
def _tables(device: torch.device) -> _Tables:
    alpha = np.arange(200, 10001) / 1000
    first, second, third = gamma(1 / alpha), gamma(2 / alpha), gamma(3 / alpha)
    rho = second**2 / (first * third)
    columns = (alpha, rho, -1 / rho, np.sqrt(first / third), second / first)
    return _Tables(*(torch.tensor(column, dtype=torch.float64, device=device) for column in columns))


def _nearest(increasing: Tensor, values: Tensor) -> Tensor:
    """Index of the entry nearest to each value, the first on ties; 0 for NaN."""
    right = torch.searchsorted(increasing, values.contiguous()).clamp(1, len(increasing) - 1)
    left = right - 1
    closer = (increasing[left] - values).abs() <= (increasing[right] - values).abs()
    return torch.where(closer, left, right).masked_fill(values.isnan(), 0)


def aggd(values: Tensor, dims: int = 1) -> AsymmetricFit:
    """Fit an asymmetric generalised Gaussian to all values of the last ``dims`` dimensions, by moments.

    Lasmar et al., 2009: zeros belong to neither side. Results have the leading dimensions' shape.
    """
    flat = values.flatten(-dims)
    positive, negative = flat.clamp(min=0.0), flat.clamp(max=0.0)
    left_square, right_square = _sum_squares(negative), _sum_squares(positive)
    magnitude = positive.sum(-1) - negative.sum(-1)
    # sums of signs count the values, twice as fast as sums of comparisons
    left = (left_square / -negative.sign_().sum(-1)).sqrt()
    right = (right_square / positive.sign_().sum(-1)).sqrt()
    moment_ratio = magnitude.square() / (left_square + right_square) / flat.shape[-1]
    skew = left / right
    adjusted = moment_ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    tables = _tables(flat.device)
    index = _nearest(tables.rho, adjusted)
    return AsymmetricFit(tables.alpha[index], left, right, tables.scale[index], tables.ratio[index])


def ggd(values: Tensor, dims: int = 1) -> SymmetricFit:
    """Fit a zero-mean generalised Gaussian to all values of the last ``dims`` dimensions, by moments.

    alpha is 0.2 where all values are zero.
    """
    flat = values.flatten(-dims)
    variance = _sum_squares(flat) / flat.shape[-1]
    ratio = variance / flat.abs().mean(-1).square()
    tables = _tables(flat.device)
    return SymmetricFit(tables.alpha[_nearest(tables.inverse, -ratio)], variance)


def _sum_squares(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values, dim=-1).square()


def neighbour_products(maps_hw: Tensor) -> list[Tensor]:
    """Products of ... x H x W maps with themselves shifted by each of SHIFTS, circularly within H x W."""
    return [maps_hw * maps_hw.roll(shift, (-2, -1)) for shift in SHIFTS]


def cut_blocks(maps_bhw: Tensor, side: int) -> Tensor:
    """B x N x side x side: the whole blocks of a B x H x W map from its top-left corner, row by row."""
    batch, height, width = maps_bhw.shape
    rows, columns = height // side, width // side
    grid = maps_bhw[:, : rows * side, : columns * side].reshape(batch, rows, side, columns, side)
    return grid.transpose(2, 3).reshape(batch, rows * columns, side, side)
