"""JPEG lattice: quantisation tables, chroma subsampling and block grid, read from decoded pixels.

The DCT coefficients of a decoded picture's 8 x 8 blocks lie on multiples of the quantisation steps, up to
rounding, for one placement of the grid. Sources: Fan and de Queiroz, "Identification of bitmap compression
history", IEEE TIP 12(2), 2003, for the steps' likelihood; ITU-T T.81, annex K, for the tables; the
Independent JPEG Group's library for quality and for the upsampling that is undone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from deflow_cli.data.folder_sample import centre
from deflow_cli.errors import ConfigError

# Annex K, tables K.1 and K.2, row by row.
_LUMA = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
_CHROMA = "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66" + " 99" * 38

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")  # by Pillow's numbers
_HALVED_AXES: dict[str, tuple[int, ...]] = {"4:4:4": (), "4:2:2": (1,), "4:2:0": (1, 0)}

_SEARCH_SIDE = 256  # px: window in which the grid is searched at its 64 places
_READ_SIDE = 512  # px: window in which the steps are read once the grid is known
_ROUNDING = 1 / 12  # variance of whole numbers, in samples and so in each coefficient
_CONVERSION = 0.03  # variance that the rounding of RGB adds to Y, Cb and Cr
_OUTLIERS = 0.05  # share of coefficients that may lie anywhere, such as beside clipped pixels
_ROUNDED_ENERGY = 2.5  # of a block's coefficients outside one row or column; rounding alone gives 56 / 12
_PER_UNIT = 8  # bins of the coefficients' histograms per unit
_LEAST_NATS = 60.0  # of log-likelihood, by which a grid must beat every other
_LEAST_STEP_NATS = 12.0  # of log-likelihood, from which a single step is believed

Phase = tuple[int, int]
Table = tuple[int, ...]
_FrequencyTable = tuple[NDArray[np.int64], NDArray[np.float32]]


@cache
def standard_tables(quality: int) -> tuple[Table, Table]:
    """Luma and chroma tables of an IJG quality, 1 to 100, row by row: annex K scaled, within 1 to 255."""
    if not 1 <= quality <= 100:
        raise ConfigError(f"JPEG quality {quality} is not in 1..100")
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luma, chroma = (
        tuple(min(255, max(1, (int(step) * scale + 50) // 100)) for step in table.split())
        for table in (_LUMA, _CHROMA)
    )
    return luma, chroma


@cache
def nearest_quality(luma: Table) -> int:
    """The IJG quality whose luma table is nearest in the mean square of the steps' logarithms."""
    steps = np.log(np.asarray(luma, dtype=np.float64))
    distances = [np.mean((np.log(standard_tables(q)[0]) - steps) ** 2) for q in range(1, 101)]
    return 1 + int(np.argmin(distances))


@dataclass(frozen=True)
class LatticeReading:
    """What decoded pixels show of their last compression.

    luma, chroma: 64 quantisation steps each, row by row; chroma and subsampling are None where colour tells
    too little. phase: row and column of the first corner of the grid, 0 to 7. confidence: the share of the
    evidence for this grid that the next best placement does not have, 0 to 1.
    """

    luma: Table
    chroma: Table | None
    subsampling: str | None
    phase: Phase
    confidence: float


@cache
def _evidence_table(top_step: int, top_value: int, sigma: float) -> NDArray[np.float32]:
    """Log-likelihood ratio of a step against a smooth density, by |coefficient|: bins x steps 1..top_step.

    For a coefficient c at distance r from the nearest multiple of the step q, the ratio is q times the normal
    density of r (wrapped around q), mixed with outliers. A coefficient near 0 tells nothing, as unquantised
    ones gather there too: it can only count against a step, when it is not near enough.
    """
    value = np.arange(top_value * _PER_UNIT)[:, None] / _PER_UNIT
    step = np.arange(1, top_step + 1)
    multiple = np.rint(value / step)
    variance = sigma**2 + 1 / (12 * _PER_UNIT**2)
    distance = value - multiple * step
    density = sum(np.exp(-((distance + turn * step) ** 2) / (2 * variance)) for turn in (-1, 0, 1))
    density = step * density / np.sqrt(2 * np.pi * variance)
    ratio = np.log((1 - _OUTLIERS) * density + _OUTLIERS)
    ratio = np.where(multiple == 0, np.minimum(ratio, 0), ratio)
    ratio[-1] = 0  # larger coefficients gather in the last bin
    return ratio.astype(np.float32)


@cache
def _evidence_tables(top_step: int, top_value: int, subsampling: str) -> tuple[_FrequencyTable, ...]:
    """Frequencies of like noise, with the evidence table for each group.

    A coefficient's variance about its multiple is that of the decoder's rounding, and of the conversion.
    Where the upsampling was undone, the conversion's and a second rounding are amplified by the filter of
    `_undo_upsampling` and its aliases: along an axis by 1/2 at frequency 0, by 2 at the middle one.
    """
    angle = np.pi * np.arange(8) / 16
    gain = np.square(3 * np.cos([angle, angle + np.pi / 2]) - np.cos([3 * angle, 3 * angle + 3 * np.pi / 2]))
    halved = _HALVED_AXES[subsampling]
    rows, columns = (gain.sum(axis=0) / 8 if axis in halved else np.ones(8) for axis in (0, 1))
    amplified = _CONVERSION + (_ROUNDING if halved else 0)
    sigma = np.sqrt(_ROUNDING + amplified * np.outer(rows, columns)).ravel()
    levels = np.round(sigma * 10) / 10
    return tuple(
        (np.flatnonzero(levels == level), _evidence_table(top_step, top_value, float(level)))
        for level in np.unique(levels)
    )


@cache
def _dct() -> NDArray[np.float32]:
    """The orthonormal DCT-II of 8 points, frequency x position."""
    k, x = np.arange(8)[:, None], np.arange(8)
    basis = np.cos(np.pi * (2 * x + 1) * k / 16) / 2
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


def _evidence(
    plane: NDArray[np.float32],
    sound: NDArray[np.bool_],
    phases: Sequence[Phase],
    tables: Sequence[_FrequencyTable],
) -> Iterator[NDArray[np.float32]]:
    """For each phase the log-likelihood ratio of each step at each frequency: 64 x steps.

    sound: where pixels were not clipped. Blocks with clipped pixels are left out, and those that are flat
    along an axis, whose rounding errors repeat instead of being independent.
    """
    bins, steps = tables[0][1].shape
    offsets = np.arange(64, dtype=np.int32) * bins
    for top, left in phases:
        rows, columns = ((n - start) // 8 for n, start in zip(plane.shape, (top, left), strict=True))
        window = np.s_[top : top + 8 * rows, left : left + 8 * columns]
        blocks = plane[window].reshape(rows, 8, columns, 8).swapaxes(1, 2).reshape(-1, 8, 8)
        usable = sound[window].reshape(rows, 8, columns, 8).all(axis=(1, 3)).ravel()
        coefficients = _dct() @ blocks[usable] @ _dct().T
        energy = np.square(coefficients)
        total = energy.sum(axis=(1, 2))
        beside = total - np.maximum(energy[:, 0].sum(axis=1), energy[:, :, 0].sum(axis=1))
        values = np.abs(coefficients[beside > _ROUNDED_ENERGY]).reshape(-1, 64)
        places = np.minimum(np.rint(values * _PER_UNIT).astype(np.int32), bins - 1) + offsets
        counts = np.bincount(places.ravel(), minlength=64 * bins).reshape(64, bins)
        evidence = np.empty((64, steps), np.float32)
        for frequencies, table in tables:
            evidence[frequencies] = counts[frequencies].astype(np.float32) @ table
        yield evidence


def _total(evidence: NDArray[np.float32]) -> float:
    """Evidence of the best step of each frequency but the lowest, less what the choice among steps gives."""
    return float(np.maximum(evidence[1:].max(1) - np.log(evidence.shape[1]), 0).sum())


def _ycbcr(pixels_hwc: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Y - 128, Cb and Cr (JFIF) about 0, rounded: the whole numbers that the decoder converted."""
    weights = np.array(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
    )
    planes = np.rint(pixels_hwc.astype(np.float32) @ weights.T)
    planes[..., 0] -= 128
    return [np.ascontiguousarray(planes[..., channel]) for channel in range(3)]


def _undo_upsampling(plane: NDArray[np.float32], start: int) -> NDArray[np.float32]:
    """Half the columns from ``start`` on, first and last left out, by the inverse of libjpeg's interpolation.

    The decoder makes a = (3 x + x_before) / 4 and b = (3 x + x_after) / 4 of each sample x. Each of
    x = (3 a - b_before) / 2 and x = (3 b - a_after) / 2 undoes it; their mean has less rounding noise.
    """
    count = (plane.shape[1] - start) // 2
    a, b = plane[:, start : start + 2 * count : 2], plane[:, start + 1 : start + 2 * count : 2]
    samples: NDArray[np.float32] = (3 * (a[:, 1:-1] + b[:, 1:-1]) - b[:, :-2] - a[:, 2:]) * np.float32(0.25)
    return samples


def _halve(plane: NDArray[np.float32], axes: Sequence[int], phase: Phase) -> NDArray[np.float32]:
    """Undo the upsampling along these axes; the grid's phase says where the pairs begin."""
    for axis in axes:
        plane = (
            _undo_upsampling(plane, phase[1] % 2) if axis == 1 else _undo_upsampling(plane.T, phase[0] % 2).T
        )
    return plane


def _read_chroma(
    planes: Sequence[NDArray[np.float32]],
    sound: NDArray[np.bool_],
    phase: Phase,
    expected: NDArray[np.int64] | None,
) -> tuple[str, NDArray[np.float32]] | None:
    """The subsampling whose blocks of Cb and Cr lie on a lattice, with the evidence for its steps.

    expected: the 64 steps that a standard luma table announces. They prevent that blocks placed half a block
    off win with half the steps, where few blocks have detail.
    """
    best_score, best = _LEAST_NATS, None
    for subsampling in SUBSAMPLINGS:
        halved = _HALVED_AXES[subsampling]
        seen = [_halve(plane, halved, phase) for plane in planes]
        clear = _halve(sound.astype(np.float32), halved, phase) == 1
        # A halved axis lacks its first sample, and a block starts at the phase or 8 pixels further on.
        starts = [
            [(phase[axis] // 2 - 1 + shift) % 8 for shift in (0, 4)] if axis in halved else [phase[axis]]
            for axis in (0, 1)
        ]
        places = [(row, column) for row in starts[0] for column in starts[1]]
        tables = _evidence_tables(255, 512, subsampling)
        for cb, cr in zip(*(_evidence(plane, clear, places, tables) for plane in seen), strict=True):
            evidence = cb + cr
            score = _total(evidence) if expected is None else float(_at(evidence, expected).sum())
            if score > best_score:
                best_score, best = score, (subsampling, evidence)
    return best


def _at(evidence: NDArray[np.float32], steps: NDArray[np.int64]) -> NDArray[np.float32]:
    """The evidence for one step at each frequency: 64."""
    return np.take_along_axis(evidence, steps[:, None] - 1, axis=1)[:, 0]


def _fit(evidence: NDArray[np.float32], standard: NDArray[np.int64]) -> Table:
    """Steps from their evidence: the standard's table, but for the steps that speak against it.

    standard: the 64 steps of the quality that the evidence supports best.
    """
    expected = _at(evidence, standard)
    best = evidence.max(1)
    told_apart = best > np.maximum(expected, 0) + np.maximum(_LEAST_STEP_NATS, 0.05 * best)
    return tuple(int(step) for step in np.where(told_apart, evidence.argmax(1) + 1, standard))


def _best_quality(luma: NDArray[np.float32]) -> int:
    """The IJG quality that the evidence supports best; a multiple of 5 where several explain it alike.

    What speaks against a step is left out: noise of high frequencies would favour coarse ones.
    """
    tables = (np.array(standard_tables(quality)[0]) for quality in range(1, 101))
    support = np.array([np.maximum(_at(luma, table), 0).sum() for table in tables])
    support[4::5] += 1
    return 1 + int(np.argmax(support))


def _subsampling_by_differences(planes: Sequence[NDArray[np.float32]], phase: Phase) -> str | None:
    """The subsampling by third differences of Cb and Cr, where chroma steps are too small to be read.

    In the notation of `_undo_upsampling` both ways to compute a sample agree: the third difference
    a_after - 3 b + 3 a - b_before is 0, but for rounding, at every second place, if the axis was subsampled.
    Places across the border of two blocks are left out. Fit for luma qualities from 90 on: the steps of lower
    ones leave patterns of their own.
    """
    halved = []
    for axis in (0, 1):
        energy = np.zeros(2)
        for plane in planes if axis == 1 else [plane.T for plane in planes]:
            differences = plane[:, :-3] - 3 * plane[:, 1:-2] + 3 * plane[:, 2:-1] - plane[:, 3:]
            of_place = np.minimum(np.square(differences), 144).mean(axis=0)
            place = (np.arange(len(of_place)) - phase[axis]) % 8
            energy += [of_place[np.isin(place, between)].mean() for between in ((1, 3), (0, 2, 4))]
        if energy[1] == 0:
            return None
        halved.append(bool(energy[0] < 0.88 * energy[1]))
    rows, columns = halved
    if rows and not columns:
        return None
    return SUBSAMPLINGS[rows + columns]


def read_lattice(pixels_hwc: NDArray[np.uint8]) -> LatticeReading | None:
    """The last compression that decoded pixels show, or None: never compressed, or changed since then.

    The grid is searched among its 64 places in the middle, by the evidence for steps of the luma
    coefficients; then the steps are read, and those of chroma at each subsampling and placement of its
    blocks. A step with too little evidence is the standard's, at the quality that the others support.

    pixels_hwc: uint8, H x W x 3.
    """
    if min(pixels_hwc.shape[:2]) < 24:
        return None
    window = centre(pixels_hwc, _READ_SIDE)
    sound: NDArray[np.bool_] = np.all((window > 0) & (window < 255), axis=-1)
    planes = _ycbcr(window)
    places = [(row, column) for row in range(8) for column in range(8)]
    top, left = (max(0, n - _SEARCH_SIDE) // 16 * 8 for n in sound.shape)
    middle = np.s_[top : top + _SEARCH_SIDE, left : left + _SEARCH_SIDE]
    tables = _evidence_tables(48, 128, "4:4:4")
    totals = [_total(found) for found in _evidence(planes[0][middle], sound[middle], places, tables)]
    order = np.argsort(totals)
    best, second = totals[order[-1]], totals[order[-2]]
    if best < max(second + _LEAST_NATS, 1.5 * second):
        return None
    phase = places[order[-1]]
    (evidence,) = _evidence(planes[0], sound, [phase], _evidence_tables(255, 512, "4:4:4"))
    standard = np.array(standard_tables(_best_quality(evidence)))
    luma = _fit(evidence, standard[0])
    expected = standard[1] if luma == tuple(standard[0]) else None
    found = _read_chroma(planes[1:], sound, phase, expected)
    subsampling, chroma = None, None
    if found is not None:
        subsampling = found[0]
        chroma = _fit(found[1], standard[1]) if expected is None else tuple(expected.tolist())
    elif nearest_quality(luma) >= 90:
        subsampling = _subsampling_by_differences(planes[1:], phase)
    return LatticeReading(
        luma=luma,
        chroma=chroma,
        subsampling=subsampling,
        phase=phase,
        confidence=1 - second / best,
    )
