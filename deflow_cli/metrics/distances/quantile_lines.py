"""Lines between the quantiles of two folders' values, with errors from groups of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri, ndtri

from deflow_cli.arrays import Array

BINS = 1024  # of a histogram over [0, 1]
_SHARES = np.array([0.005, 0.05, 0.5, 0.95, 0.995])  # of values below each of the quantiles compared
_LEAST_ERROR = 0.5 / 255  # of a quantile
_IMAGES_A_GROUP, _MOST_GROUPS = 4, 30  # of the jackknife: neighbours in order, which often show one scene
_ITERATIONS = 8  # of Gauss-Newton
_NODES = ndtri((np.arange(64) + 0.5) / 64)  # of a standard normal number


class QuantileLines:
    """after = slope x before + intercept of several channels' values, over two folders of other images.

    Least squares over quantiles of all images' values together, with the covariance of both folders', of a
    jackknife over groups of neighbouring images. Quantiles that a line does not fit are those of other
    scenes: errors grow with the misfit.

    before, after: histograms of the images in order of names, each channels x ``BINS`` over [0, 1].
    spread: standard deviation of noise that the values of each channel of ``after`` hold. clipped: that of
    noise that was clipped to [0, 1] before values were averaged; None: values were not clipped.

    found: channels x (slope, intercept). covariance: of these in a row. groups: of the jackknife.
    """

    def __init__(
        self,
        before: Sequence[Array],
        after: Sequence[Array],
        spread: Sequence[float],
        clipped: Sequence[float] | None = None,
    ) -> None:
        self.groups = groups_of(len(before), len(after))
        x, x_without = _quantiles(before, self.groups, spread)
        y, y_without = _quantiles(after, self.groups, [0.0] * len(spread))
        self._fits = []
        for channel in range(len(spread)):
            error = jackknife(x_without[:, channel]) + jackknife(y_without[:, channel])
            # Of thirty groups, correlations are known too badly to be taken at their word.
            weight = np.linalg.inv(error + np.diag(np.diag(error) + _LEAST_ERROR**2))
            self._fits.append(_Fit(weight, None if clipped is None else clipped[channel]))
        self.found = self._lines(x, y)
        covariance = jackknife(np.stack([self._lines(other, y).ravel() for other in x_without]))
        covariance = covariance + jackknife(np.stack([self._lines(x, other).ravel() for other in y_without]))
        least = np.tile([1e-3, _LEAST_ERROR / 2], len(spread))
        self.covariance = covariance * max(1.0, self._misfit(x, y)) + np.diag(least**2)

    def _lines(self, x_cq: Array, y_cq: Array) -> Array:
        return np.stack([fit(x, y) for fit, x, y in zip(self._fits, x_cq, y_cq, strict=True)])

    def _misfit(self, x_cq: Array, y_cq: Array) -> float:
        """What the lines leave, over what they would by the quantiles' errors alone."""
        left = sum(
            fit.left(x, y, line) for fit, x, y, line in zip(self._fits, x_cq, y_cq, self.found, strict=True)
        )
        freedom = len(self._fits) * (len(_SHARES) - 2)
        return left / (freedom / 2)  # the weights take half of each


def groups_of(before: int, after: int) -> int:
    """How many groups of images errors come from, for folders of so many."""
    return min(_MOST_GROUPS, min(before, after) // _IMAGES_A_GROUP)


def least_images(parameters: int) -> int:
    """How many images a folder must have for so many numbers to be compared."""
    return _IMAGES_A_GROUP * (parameters + 2)


def t_squared_by_chance(parameters: int, groups: int, chance: float) -> float:
    """What Hotelling's T^2, of a covariance from so many groups, exceeds with a chance."""
    left = groups - parameters
    return float(parameters * (groups - 1) / left * fdtri(parameters, left, 1 - chance))


def histogram(values_nc: NDArray[np.floating[Any]]) -> Array:
    """Shares of values in [0, 1], per channel: channels x ``BINS``."""
    places = np.clip((values_nc * BINS).astype(int), 0, BINS - 1)
    return np.stack([np.bincount(channel, minlength=BINS) for channel in places.T]) / max(len(values_nc), 1)


def _quantiles(histograms: Sequence[Array], groups: int, spread: Sequence[float]) -> tuple[Array, Array]:
    """Quantiles per channel of all images (C x 5), and without each group of neighbours (groups x C x 5)."""
    parts = sums_of_groups(np.stack(histograms), groups)
    whole = parts.sum(0)
    return _quantiles_of(whole, spread), np.stack([_quantiles_of(whole - part, spread) for part in parts])


def sums_of_groups(values: Array, groups: int) -> Array:
    """Sums over images (the first dimension) in each group of neighbours."""
    place = np.arange(len(values)) * groups // len(values)
    return np.stack([values[place == group].sum(0) for group in range(groups)])


def _quantiles_of(counts_cb: Array, spread: Sequence[float]) -> Array:
    return np.stack([_quantiles_with(row, noise) for row, noise in zip(counts_cb, spread, strict=True)])


def _quantiles_with(counts_b: Array, noise: float) -> Array:
    """Quantiles of the values with normal noise added, which may leave [0, 1]."""
    reach = int(np.ceil(4 * noise * BINS))
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / max(noise * BINS, 1e-6)) ** 2)
    below = np.cumsum(np.convolve(counts_b, kernel / kernel.sum()))
    return np.interp(_SHARES * below[-1], below, np.arange(1 - reach, BINS + reach + 1) / BINS)


def jackknife(without_gn: Array) -> Array:
    """Covariance of an estimate, from those without each group: groups x numbers."""
    groups = len(without_gn)
    centred = without_gn - without_gn.mean(0)
    return cast(Array, (groups - 1) / groups * (centred.T @ centred))


class _Fit:
    """Least squares of y = E[clip(slope x + intercept + noise)] over quantiles, or without clipping."""

    def __init__(self, weight: NDArray[np.floating[Any]], clipped: float | None) -> None:
        self.weight, self.clips = weight, clipped is not None
        self.noise = (clipped or 0.0) * _NODES

    def __call__(self, x_q: Array, y_q: Array) -> Array:
        """(slope, intercept)."""
        line = np.array([1.0, 0.0])
        terms = np.stack([x_q, np.ones_like(x_q)], 1)
        for _ in range(_ITERATIONS):
            value, slope = self._value(x_q, line)
            slopes = slope[:, None] * terms
            change = slopes.T @ self.weight @ (y_q - value)
            line = line + np.linalg.solve(slopes.T @ self.weight @ slopes, change)
        return line

    def left(self, x_q: Array, y_q: Array, line: Array) -> float:
        """The weighted sum of squares that a line leaves."""
        left = y_q - self._value(x_q, line)[0]
        return float(left @ self.weight @ left)

    def _value(self, x_q: Array, line: Array) -> tuple[Array, Array]:
        """The expected quantiles, and by how much they follow the line where it is clipped."""
        drawn = (line[0] * x_q + line[1])[:, None] + self.noise
        if not self.clips:
            return drawn.mean(1), np.ones_like(x_q)
        return drawn.clip(0, 1).mean(1), ((drawn > 0) & (drawn < 1)).mean(1).clip(0.1)
