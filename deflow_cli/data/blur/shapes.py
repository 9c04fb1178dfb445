"""Blur kernels as shapes: width, direction, place, and what follows from one at another scale.

A kernel is correlated with a large picture, of which every scale-th pixel is kept; its pixels are those of
that picture. Axes are y, x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.signal import convolve2d

from deflow_cli.arrays import Array

# MATLAB's bicubic kernel for down-sampling by 2, along one axis
BICUBIC_TAPS = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
_FINE = 5  # samples a pixel along each axis, over which a Gaussian is averaged


def bicubic_kernel(side: int) -> Array:
    """The 8 x 8 kernel of bicubic down-sampling by 2 in the middle of side x side zeros, centred as ours."""
    kernel = np.zeros((side, side))
    first = side // 2 - 3
    kernel[first : first + 8, first : first + 8] = np.outer(BICUBIC_TAPS, BICUBIC_TAPS)
    return kernel


def centre_of_mass(kernel: Array) -> Array:
    """Row and column of the centre of mass."""
    places = [np.arange(size) for size in kernel.shape]
    return np.array([places[0] @ kernel.sum(1), places[1] @ kernel.sum(0)]) / kernel.sum()


def kernel_covariance(kernel: Array) -> Array:
    """The second moments about the centre of mass, 2 x 2 in px^2: yy, yx; xy, xx."""
    y, x = np.indices(kernel.shape) - centre_of_mass(kernel)[:, None, None]
    weights = kernel / kernel.sum()
    yx = float((weights * y * x).sum())
    return np.array([[float((weights * y * y).sum()), yx], [yx, float((weights * x * x).sum())]])


@dataclass(frozen=True)
class BlurWidth:
    """A covariance as an ellipse.

    narrow, wide: standard deviations in px along its axes, 0 where the variance is negative (kernels with
    negative lobes). angle: of the wide axis, degrees from the x axis towards the y axis, 0 to below 180.
    """

    narrow: float
    wide: float
    angle: float


def blur_width(covariance: Array) -> BlurWidth:
    """The ellipse of a covariance."""
    variances, axes = np.linalg.eigh(covariance)
    narrow, wide = (math.sqrt(max(float(value), 0.0)) for value in variances)
    return BlurWidth(narrow, wide, math.degrees(math.atan2(axes[0, 1], axes[1, 1])) % 180)


def contrast_kept(kernel: Array, cycles_y: float, cycles_x: float) -> float:
    """What is left of the contrast of a sine wave of so many cycles per pixel along each axis, 0 to 1."""
    y, x = np.indices(kernel.shape)
    wave = np.exp(-2j * np.pi * (cycles_y * y + cycles_x * x))
    return float(abs((kernel * wave).sum()) / abs(kernel.sum()))


def gaussian_kernel(covariance: Array, side: int, displacement: float) -> Array:
    """A Gaussian averaged over pixels, of sum 1. displacement: of its centre from side // 2, in px."""
    variances, axes = np.linalg.eigh(covariance)
    inverse = axes @ np.diag(1 / np.maximum(variances, 1e-3)) @ axes.T
    inner = (np.arange(_FINE) - _FINE // 2) / _FINE
    places = (np.arange(side)[:, None] - side // 2 - displacement + inner).ravel()
    y, x = np.meshgrid(places, places, indexing="ij")
    fine = np.exp(-0.5 * (inverse[0, 0] * y * y + 2 * inverse[0, 1] * y * x + inverse[1, 1] * x * x))
    kernel = fine.reshape(side, _FINE, side, _FINE).sum(axis=(1, 3))
    return np.asarray(kernel / kernel.sum())


def drop_negligible(kernel: Array, kept: int = 40) -> Array:
    """KernelGAN's clean-up: subtract 3/4 of the (``kept`` + 1)-th greatest weight, clip at 0, sum to 1."""
    ranked = np.sort(kernel, axis=None)[::-1]
    threshold = 0.75 * ranked[min(kept, ranked.size - 1)]
    clipped = np.clip(kernel - threshold, 0, 100)
    return np.asarray(clipped / clipped.sum())


def centred_kernel(kernel: Array, displacement: float) -> Array:
    """Moved by a cubic spline so that the centre of mass is ``displacement`` px beyond size // 2.

    The support grows on every side by as many pixels as the move needs, and one.
    """
    wanted = np.array([size // 2 + displacement for size in kernel.shape])
    move = wanted - centre_of_mass(kernel)
    margin = math.ceil(float(np.abs(move).max())) + 1
    return np.asarray(ndimage.shift(np.pad(kernel, margin), move, order=3))


def four_fold(kernel: Array) -> Array:
    """The x4 kernel of a x2 kernel applied twice: K = sum over (r, c) of k[r, c] k at the offset (2 r, 2 c).

    That is k with zeros between its weights, convolved with k. n // 2 px are cropped from every side, and the
    sum is brought to 1. A 13 x 13 kernel becomes 25 x 25 (KernelGAN, section 3).
    """
    size = kernel.shape[0]
    spread = np.zeros((2 * size - 1, 2 * size - 1))
    spread[::2, ::2] = kernel
    whole = convolve2d(spread, kernel)
    rim = size // 2
    inner = whole[rim:-rim, rim:-rim] if rim else whole
    return np.asarray(inner / inner.sum())
