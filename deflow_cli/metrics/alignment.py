"""Alignment: how far a picture is displaced against another one of the same scene, by phase correlation.

The cross-power spectrum of two displaced pictures has the displacement in its phase alone (Kuglin and
Hines 1975). Only low frequencies are kept, by a Gaussian of ``_CUTOFF`` cycles per pixel, since noise and
blur leave little else in common; the peak is then a Gaussian too, and a parabola through its logarithm
finds it between pixels.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from deflow_cli.errors import ShapeError

_CUTOFF = 0.12
_LUMA = np.array([0.299, 0.587, 0.114])


class Displacement(NamedTuple):
    """Pixels by which the second picture lies to the right of the first, and below it.

    confidence: height of the peak, 1 where the pictures are equal but for the displacement, and about 0 where
    they have nothing in common.
    """

    right: float
    down: float
    confidence: float

    @property
    def length(self) -> float:
        return math.hypot(self.right, self.down)


def luma_of(pixels_hwc: NDArray[Any]) -> NDArray[np.float64]:
    """BT.601 luma of H x W x 3, on the same scale."""
    return np.asarray(pixels_hwc @ _LUMA)


def displacement(first_hw: NDArray[np.float64], second_hw: NDArray[np.float64]) -> Displacement:
    """Where the second picture lies, up to half a side. Raises ShapeError for unequal or tiny sizes."""
    if first_hw.shape != second_hw.shape or min(first_hw.shape) < 8:
        raise ShapeError(
            f"pictures of {first_hw.shape} and {second_hw.shape}: one size of 8 px or more is needed"
        )
    height, width = first_hw.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    spectra = [fft.rfft2((picture - picture.mean()) * window) for picture in (first_hw, second_hw)]
    cross = spectra[1] * np.conj(spectra[0])
    size = np.abs(cross)
    weights = np.exp(-(fft.fftfreq(height)[:, None] ** 2 + fft.rfftfreq(width)[None] ** 2) / (2 * _CUTOFF**2))
    weights[0, 0] = 0
    phases = np.divide(cross, size, out=np.zeros_like(cross), where=size > 1e-9)
    surface = fft.irfft2(phases * weights, s=first_hw.shape)
    highest = float(fft.irfft2(weights, s=first_hw.shape)[0, 0])
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    peak = float(surface[row, column])
    if peak <= 0:
        return Displacement(0.0, 0.0, 0.0)
    down = row + _between(surface[(row - 1) % height, column], peak, surface[(row + 1) % height, column])
    right = column + _between(surface[row, (column - 1) % width], peak, surface[row, (column + 1) % width])
    return Displacement(_signed(right, width), _signed(down, height), peak / highest)


def _between(before: float, peak: float, after: float) -> float:
    """Where the top of a Gaussian through three neighbours lies, from -1/2 to 1/2."""
    low, high = (math.log(max(value, 1e-9 * peak) / peak) for value in (before, after))
    bend = low + high
    return 0.5 * (low - high) / bend if bend < 0 else 0.0


def _signed(place: float, size: int) -> float:
    return float(place - size if place > size / 2 else place)
