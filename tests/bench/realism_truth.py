"""A paired test, what is known of its real noise, and all columns of the table of goals for other noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from realism import as_float, figures, real_statistics
from realism_columns import COLUMNS, REGIONS
from realism_data import Pair, Pixels

from deflow_cli.arrays import Array
from deflow_cli.errors import DataError
from deflow_cli.metrics.distances.two_sample import two_sample
from deflow_cli.metrics.noise.comparison import compare
from deflow_cli.metrics.noise.content import measure_content
from deflow_cli.metrics.noise.residual import local_variance, luma

Run = dict[str, float]
"""Figures of one degrader under one seed, by column."""


def _thirds(maps: Sequence[Array]) -> list[NDArray[np.int64]]:
    """Of each pixel the third, 0 to 2, that its value belongs to among the pixels of all maps."""
    edges = np.quantile(np.concatenate([each.ravel() for each in maps]).astype(np.float32), [1 / 3, 2 / 3])
    return [np.searchsorted(edges, each.astype(np.float32)) for each in maps]


class Truth:
    """A paired test with what is measured of its real noise, once."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = list(pairs)
        self.statistics = real_statistics(self.pairs)
        greys = [luma(as_float(pair.clean)) for pair in self.pairs]
        self._brightness, self._detail = _thirds(greys), _thirds([local_variance(grey) for grey in greys])
        noisy = [pair.noisy for pair in self.pairs]
        self.regions = self.region_sums(noisy)
        content = measure_content([pair.clean for pair in self.pairs], noisy)
        own = {"low_pass_psnr": content.low_pass_psnr, "finest_kept": float(content.gain[-1])}
        stds = 255.0 * _stds(self.regions)
        own |= {f"std_{region}": float(std) for region, std in zip(REGIONS, stds, strict=True)}
        self.values = {column.key: own.get(column.key, math.nan) for column in COLUMNS}

    def region_sums(self, outputs: Sequence[Pixels]) -> Array:
        """N x 5 x 2: values in each region, and their sum of squares about the picture's channel means."""
        sums = np.zeros((len(self.pairs), len(REGIONS), 2))
        for index, (pair, output) in enumerate(zip(self.pairs, outputs, strict=True)):
            residual = as_float(output) - as_float(pair.clean)
            energy = ((residual - residual.mean(axis=(0, 1))) ** 2).sum(axis=2)
            light, detail = self._brightness[index], self._detail[index]
            masks = [light == 0, light == 1, light == 2, detail == 0, detail == 2]
            sums[index] = [(3 * mask.sum(), energy[mask].sum()) for mask in masks]
        return sums

    def distances(self, outputs: Sequence[Pixels]) -> Run:
        """The figures of realism.py."""
        row = figures("", self.pairs, outputs, self.statistics)
        return {key: float(value) for key, value in row.items() if key != "name"}

    def measure(self, outputs: Sequence[Pixels], seed: int) -> Run:
        """All columns of degradations of the clean test pictures; the seed is the classifier's."""
        run = self.distances(outputs)
        run |= _ratios(self.regions, self.region_sums(outputs))
        content = measure_content([pair.clean for pair in self.pairs], outputs)
        names = [pair.name for pair in self.pairs]
        told = _told_apart([pair.noisy for pair in self.pairs], outputs, (names, names), seed)
        return run | {"cnn": told, "finest_kept": float(content.gain[-1])}

    def halves(self, seed: int) -> Run:
        """One half of the real pictures, drawn at random, against the other half."""
        order = np.random.default_rng(seed).permutation(len(self.pairs))
        first, second = (np.sort(half) for half in np.array_split(order, 2))
        run = compare(self.statistics.take(first), self.statistics.take(second))
        run |= _ratios(self.regions[first], self.regions[second])
        sides = [[self.pairs[index] for index in half] for half in (first, second)]
        noisy = [[pair.noisy for pair in side] for side in sides]
        names = ([pair.name for pair in sides[0]], [pair.name for pair in sides[1]])
        content = measure_content([pair.clean for pair in sides[1]], noisy[1])
        run |= {"low_pass_psnr": content.low_pass_psnr, "finest_kept": float(content.gain[-1])}
        return run | {"cnn": _told_apart(noisy[0], noisy[1], names, seed)}


def _stds(sums: Array) -> Array:
    """Std in each region from sums N x 5 x 2; NaN where there is no pixel."""
    count, energy = sums.sum(axis=0).T
    return np.sqrt(energy / np.where(count > 0, count, np.nan))


def _ratios(real: Array, fake: Array) -> Run:
    """Std in each region over the real noise's."""
    ratios = _stds(fake) / _stds(real)
    return {f"std_{region}": float(ratio) for region, ratio in zip(REGIONS, ratios, strict=True)}


def _told_apart(
    real: Sequence[Pixels], fake: Sequence[Pixels], names: tuple[list[str], list[str]], seed: int
) -> float:
    """Balanced accuracy of a small CNN; NaN with fewer than four usable pictures a side."""
    try:
        return two_sample(real, fake, seed=seed, groups=names).accuracy
    except DataError:
        return math.nan
