"""Tone: how a folder's contrast, black, cast and saturation differ from another's that shows other scenes.

Fading moves the brightest and the darkest pixels of all images, which scenes determine far less than they do
the means and deviations of channels: nearly every folder of photographs holds black and white. Over pixels of
all images together, quantiles do not depend on how images were cropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Array, Pixels
from deflow_cli.metrics.distances.quantile_lines import (
    QuantileLines,
    groups_of,
    histogram,
    jackknife,
    least_images,
    sums_of_groups,
    t_squared_by_chance,
)

_BLOCK = 4  # px: means of blocks, so that noise weighs little
_MOST_BLOCKS = 16_384  # of an image that are looked at
_PARAMETERS = 6  # contrast and offset of three channels
LEAST_COMPARED = least_images(_PARAMETERS)
"""Images of a folder; below, nothing is found."""
_CHANCE = 0.01  # of finding a change where there is none
_PLAUSIBLE = (0.25, 4.0)  # contrasts, saturations
_CURVE = 4 / 255  # deviation of what a curve adds to the middle tones
DIFFERENCES = np.array([[0.5, 0.0, -0.5], [-0.25, 0.5, -0.25]])
"""Of the channels: red - blue and green - magenta, from -0.5 to 0.5."""


@dataclass(frozen=True)
class ToneChange:
    """degraded = S(contrast x clean) + offset; S multiplies what the channels differ from their mean by.

    contrast, offset: of red, green, blue, in [0, 1]. saturation: S. All are 1, 0 and 1 unless ``found``,
    otherwise the estimate drawn towards these by its error. text: the finding, for people.
    """

    contrast: tuple[float, float, float]
    offset: tuple[float, float, float]
    found: bool
    text: str
    saturation: float = 1.0

    def of(self, colours_n3: NDArray[np.floating[Any]]) -> Array:
        """What becomes of colours in [0, 1], N x 3; not clipped."""
        scaled = colours_n3 * np.array(self.contrast)
        grey = scaled.mean(1, keepdims=True)
        return cast(Array, grey + self.saturation * (scaled - grey) + np.array(self.offset))


class NoiseLevel(NamedTuple):
    """Standard deviations of noise, in [0, 1]: of pixels, and of the means of 4 x 4 blocks."""

    pixels: float
    blocks: float

    @classmethod
    def of_power(cls, power_yx: Array) -> NoiseLevel:
        """Of a power spectrum in FFT order, whose mean is the variance."""
        frequencies = np.fft.fftfreq(len(power_yx))
        response = np.exp(-2j * np.pi * np.outer(frequencies, np.arange(_BLOCK))).mean(1)
        kept = np.abs(response) ** 2
        blocks = float((power_yx * np.outer(kept, kept)).mean())
        return cls(max(float(power_yx.mean()), 0.0) ** 0.5, max(blocks, 0.0) ** 0.5)


def block_means(pixels: Pixels) -> NDArray[np.float32]:
    """What is compared of an image: means of 4 x 4 blocks in [0, 1], N x 3, of a large one evenly spread."""
    height, width = (side // _BLOCK for side in pixels.shape[:2])
    step = max(1, math.ceil((height * width / _MOST_BLOCKS) ** 0.5))
    blocks = pixels[: height * _BLOCK, : width * _BLOCK].reshape(height, _BLOCK, width, _BLOCK, 3)
    return blocks[::step, :, ::step].mean((1, 3), dtype=np.float32).reshape(-1, 3) / np.float32(255)


def tone_change(
    clean: Sequence[NDArray[np.float32]],
    degraded: Sequence[NDArray[np.float32]],
    noise: Sequence[NoiseLevel] | None = None,
) -> ToneChange:
    """Contrast and offset between two folders, from ``block_means`` of their images in order of names.

    Per channel, quantiles of the degraded images are fitted as a line of the clean ones' (``QuantileLines``).
    The folders differ where Hotelling's T^2 of all six numbers exceeds what chance reaches once in a hundred
    cases; the numbers are then drawn towards no change by the positive-part rule of James and Stein.

    noise: of each channel. Clipping takes half of it at black and at white, and what it adds to the means of
    blocks spreads them: both belong to the noise, not to contrast.
    """
    groups = groups_of(len(clean), len(degraded))
    if groups < _PARAMETERS + 2:
        return _unchanged(f"fewer than {LEAST_COMPARED} images in a folder: too few to compare channels")
    levels = noise or [NoiseLevel(0.0, 0.0)] * 3
    within = [max(level.pixels**2 - level.blocks**2, 0.0) ** 0.5 for level in levels]
    before, after = ([histogram(image) for image in images] for images in (clean, degraded))
    lines = QuantileLines(before, after, [level.blocks for level in levels], within)
    change = (lines.found - [1.0, 0.0]).ravel()
    distance = float(change @ np.linalg.solve(lines.covariance, change))
    bound = t_squared_by_chance(_PARAMETERS, groups, _CHANCE)
    contrast, offset = lines.found.T
    words = (
        f"contrast {', '.join(f'{c:.2f}' for c in contrast)} and offset "
        f"{', '.join(f'{255 * o:+.0f}' for o in offset)} grey levels of red, green, blue"
    )
    if distance <= bound:
        return _unchanged(f"{words}, within sampling error over images")
    if not all(map(_is_plausible, contrast)):
        return _unchanged(f"{words}, which is no change of tone: do the folders show alike scenes?")
    kept = (1 - (_PARAMETERS - 2) / distance) * change.reshape(3, 2)
    text = f"{words}, beyond sampling error over images (T² = {distance:.0f}, by chance below {bound:.0f})"
    return ToneChange(_triple(1 + kept[:, 0]), _triple(kept[:, 1]), True, text)


def with_saturation(
    change: ToneChange,
    clean: Sequence[NDArray[np.float32]],
    degraded: Sequence[NDArray[np.float32]],
    noise: Sequence[float] | None = None,
) -> ToneChange:
    """A change of tone with the saturation, from ``block_means`` of the images in order of names.

    Lines of the two ``DIFFERENCES`` of the channels, of the clean images with the change's contrast, give a
    slope each. Their mean by their errors counts where it differs from 1 by more than chance reaches once in
    a hundred cases, and is then drawn towards 1. noise: of the means of blocks, for each difference.
    """
    before = [_colours(image * np.array(change.contrast)) for image in clean]
    lines = QuantileLines(before, [_colours(image) for image in degraded], noise or (0.0, 0.0))
    weight = np.linalg.inv(lines.covariance[::2, ::2]).sum(0)
    saturation = float(weight @ lines.found[:, 0] / weight.sum())
    distance = (saturation - 1) ** 2 * float(weight.sum())
    if distance <= t_squared_by_chance(1, lines.groups, _CHANCE) or not _is_plausible(saturation):
        return change
    kept = 1 + (1 - 1 / distance) * (saturation - 1)
    return replace(change, saturation=kept, text=f"saturation {saturation:.2f}, {change.text}")


def with_means(
    change: ToneChange, clean: Sequence[NDArray[np.float32]], degraded: Sequence[NDArray[np.float32]]
) -> ToneChange:
    """A change of tone whose offsets have a part of what the line leaves of the difference of means.

    A curve moves the middle tones, not black and white. What it adds there is taken to have a deviation of
    4 grey levels, so that the difference counts by 4^2 / (4^2 + e^2), e its standard error between images.
    From ``block_means`` of the images in order of names.
    """
    groups = groups_of(len(clean), len(degraded))
    before, after = (np.stack([image.mean(0, dtype=np.float64) for image in x]) for x in (clean, degraded))
    before = change.of(before)
    variance = sum(np.diag(jackknife(_means_without(each, groups))) for each in (before, after))
    left = (after.mean(0) - before.mean(0)) * _CURVE**2 / (_CURVE**2 + variance)
    return replace(change, offset=_triple(change.offset + left))


def _means_without(values_n3: Array, groups: int) -> Array:
    """The mean without each group of neighbours: groups x 3."""
    sums = sums_of_groups(values_n3, groups)
    counts = sums_of_groups(np.ones((len(values_n3), 1)), groups)
    return cast(Array, (sums.sum(0) - sums) / (counts.sum(0) - counts))


def _colours(means_n3: NDArray[np.floating[Any]]) -> Array:
    return histogram(means_n3 @ DIFFERENCES.T + 0.5)


def _is_plausible(factor: float) -> bool:
    return _PLAUSIBLE[0] <= factor <= _PLAUSIBLE[1]


def _unchanged(text: str) -> ToneChange:
    return ToneChange((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), False, text)


def _triple(values: Array) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
