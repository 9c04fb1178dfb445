"""Repetition: whether noise comes back, within one picture or from one picture to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from deflow_cli.arrays import Array, Pixels
from deflow_cli.errors import DataError
from deflow_cli.metrics.noise.content import without_content
from deflow_cli.metrics.noise.residual import Fluctuation, chance_variance

NEAREST = 12
"""Displacements within a picture up to this many pixels are the noise's own grain, not a repetition."""
REPETITION_SIDE = 384
MOST_PAIRS = 20
LEAST_OVERLAP = 1 / 8
SLACK = 1.4
LEAST_PEAK = 0.12
"""Least bound: what cameras repeat themselves; their own JPEGs reach 0.1 at 16 px, the chroma blocks."""


@dataclass(frozen=True)
class Peak:
    """The most telling correlation of noise with itself: ``value`` at (``down``, ``right``) pixels.

    ``first``, ``second``: indices of the two pictures, the same for a peak within one. ``bound``: the
    largest value that independent noise of this grain and overlap reaches, with some slack.
    """

    value: float
    bound: float
    first: int
    second: int
    down: int
    right: int

    @property
    def excess(self) -> float:
        """Value over bound: a repetition above 1."""
        return self.value / self.bound


@dataclass(frozen=True)
class Repetition:
    """The most telling peaks ``within`` one picture and ``across`` two (None for a single picture)."""

    images: int
    within: Peak
    across: Peak | None

    @property
    def worst(self) -> Peak:
        return max((peak for peak in (self.within, self.across) if peak), key=lambda peak: peak.excess)

    @property
    def passes(self) -> bool:
        return self.worst.excess <= 1.0


def measure_repetition(residuals: Sequence[Array], cleans: Sequence[Pixels] | None = None) -> Repetition:
    """Look for noise that repeats, in residuals H x W x 3 on the [0, 1] scale, sizes may differ.

    Each residual is freed of what its clean picture explains (if given), of what is coarser than about
    8 px, and of its local amplitude, so that edges and brightness do not count. Then, over all displacements
    that leave an overlap of an eighth: within a picture the autocorrelation beyond 12 px, and between
    pictures (at most 20 pairs, their common top left 384 px) the cross-correlation. Chance alone reaches
    sqrt(2 ln M) s over M displacements, s^2 = (sum rho^2) / N on the overlap (Leadbetter, Lindgren and
    Rootzen, 1983); the bound is 1.4 times that, since lattices such as JPEG's blocks leave fewer free
    values, and at least 0.12. Deterministic. Raises DataError without a residual, or below 32 px.
    """
    if not residuals:
        raise DataError("no residual to measure")
    fields: list[_Field] = []
    for index, residual in enumerate(residuals):
        if min(residual.shape[:2]) < 32:
            raise DataError(
                f"a residual of {residual.shape[1]}x{residual.shape[0]} is too small to look for repetition; "
                "it takes 32 px"
            )
        corner = residual[:REPETITION_SIDE, :REPETITION_SIDE]
        clean = cleans[index][:REPETITION_SIDE, :REPETITION_SIDE] / 255.0 if cleans is not None else None
        fields.append(_Field.of(even_out(corner, clean)))
    within = [_peak(field, field, index, index, len(fields)) for index, field in enumerate(fields)]
    pairs = _pairs(len(fields))
    across = [_peak(fields[i], fields[j], i, j, len(pairs)) for i, j in pairs]
    return Repetition(
        len(fields),
        reduce(_more_telling, within),
        reduce(_more_telling, across) if across else None,
    )


def even_out(residual: Array, clean: Array | None = None) -> Array:
    """Noise of unit local std and mean zero: less content, less its coarse part, over its local std."""
    noise = residual - residual.mean(axis=(0, 1)) if clean is None else without_content(residual, clean)
    noise = noise - cv2.GaussianBlur(noise, (0, 0), 3.0, borderType=cv2.BORDER_REFLECT_101)
    power = cv2.GaussianBlur(noise**2, (0, 0), 4.0, borderType=cv2.BORDER_REFLECT_101)
    # half a level: where 8 bits leave nothing of the noise, there is nothing to amplify
    noise = np.clip(noise / np.sqrt(np.maximum(power, (0.5 / 255.0) ** 2)), -4.0, 4.0)
    return noise - noise.mean(axis=(0, 1))


def _more_telling(one: Peak, other: Peak) -> Peak:
    return other if other.excess > one.excess else one


def _pairs(count: int) -> list[tuple[int, int]]:
    """At most 20 pairs of pictures, each picture as often as another: neighbours first, then wider apart."""
    pairs = [(i, i + step) for step in range(1, count) for i in range(count - step)]
    stride = max(1, (count - 1) // MOST_PAIRS)
    return pairs[::stride][:MOST_PAIRS] if count - 1 > MOST_PAIRS else pairs[:MOST_PAIRS]


@dataclass(frozen=True)
class _Field:
    """An evened residual H x W x 3 with its zero-padded spectrum, taken once for all its searches."""

    noise: Array
    spectrum: NDArray[np.complexfloating]
    fluctuation: Fluctuation

    @classmethod
    def of(cls, noise: Array) -> _Field:
        size = _padded(noise.shape)
        planes = np.ascontiguousarray(np.moveaxis(noise, 2, 0), dtype=np.float32)
        return cls(noise, scipy.fft.rfft2(planes, size), Fluctuation.of(noise))

    def cut(self, height: int, width: int) -> _Field:
        """The top left part; the same object where nothing is cut."""
        whole = self.noise.shape[:2] == (height, width)
        return self if whole else _Field.of(self.noise[:height, :width])


def _padded(shape: tuple[int, ...]) -> tuple[int, int]:
    """A fast size for the transform that keeps displacements apart."""
    return scipy.fft.next_fast_len(2 * shape[0], True), scipy.fft.next_fast_len(2 * shape[1], True)


def _peak(first: _Field, second: _Field, i: int, j: int, searches: int) -> Peak:
    """Largest correlation of two evened residuals over displacements, relative to its bound there."""
    height, width = (min(a, b) for a, b in zip(first.noise.shape[:2], second.noise.shape[:2], strict=True))
    first, second = first.cut(height, width), second.cut(height, width)
    size = _padded((height, width))
    product = scipy.fft.irfft2((first.spectrum.conj() * second.spectrum).sum(axis=0), size)
    down, right = (_displacements(length) for length in size)
    overlap = np.maximum(height - np.abs(down), 0)[:, None] * np.maximum(width - np.abs(right), 0)[None]
    allowed = overlap >= LEAST_OVERLAP * height * width
    if i == j:
        allowed &= np.maximum(np.abs(down)[:, None], np.abs(right)[None]) > NEAREST
    power = float(np.sqrt(np.sum(first.noise**2) * np.sum(second.noise**2))) / (height * width)
    value = product / (np.maximum(overlap, 1) * max(power, 1e-24))
    variance = chance_variance(first.fluctuation, second.fluctuation)
    chance = np.sqrt(2.0 * np.log(max(allowed.sum() * searches, 2)) * variance)
    bound = np.maximum(SLACK * chance * np.sqrt(height * width / np.maximum(overlap, 1)), LEAST_PEAK)
    y, x = np.unravel_index(np.argmax(np.where(allowed, value / bound, -np.inf)), value.shape)
    return Peak(float(value[y, x]), float(bound[y, x]), i, j, int(down[y]), int(right[x]))


def _displacements(length: int) -> NDArray[np.int64]:
    """Signed displacement of each index of a circular correlation."""
    index = np.arange(length)
    return np.where(index > length // 2, index - length, index)
