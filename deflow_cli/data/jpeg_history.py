"""JPEG history: the quantisation tables, chroma subsampling and block grid that pictures were compressed with.

A JPEG file states them. A lossless picture that was decoded from one still shows them: the DCT coefficients
of its 8 x 8 blocks lie on multiples of the quantisation steps, up to rounding, for one placement of the
grid. Sources: Fan and de Queiroz, "Identification of bitmap compression history", IEEE TIP 12(2), 2003, for
the steps' likelihood; ITU-T T.81, annex K, for the tables; the Independent JPEG Group's library for quality.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import JpegImagePlugin

from deflow_cli.data.folder_sample import centre, evenly_spread
from deflow_cli.data.images.files import DECODE_ERRORS, open_header, read_rgb8
from deflow_cli.errors import DataError, naming

MOST_PICTURES = 60
SEARCH_SIDE = 256  # px: window in which the grid is searched at its 64 places
READ_SIDE = 512  # px: window in which the steps are read once the grid is known
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")  # by Pillow's numbers

# Annex K, tables K.1 and K.2, row by row.
_LUMA = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
_CHROMA = "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66" + " 99" * 38

_ROUNDING = 1 / 12  # variance of whole numbers, in samples and so in each coefficient
_CONVERSION = 0.03  # variance that the rounding of RGB adds to Y, Cb and Cr
_OUTLIERS = 0.05  # share of coefficients that may lie anywhere, such as beside clipped pixels
_ROUNDED_ENERGY = 2.5  # of a block's coefficients outside one row or column; rounding alone gives 56 / 12
_PER_UNIT = 8  # bins of the coefficients' histograms per unit
_LEAST_NATS = 60.0  # of log-likelihood, by which a grid must beat every other
_LEAST_STEP_NATS = 12.0  # of log-likelihood, from which a single step is believed

Phase = tuple[int, int]
_FrequencyTable = tuple[NDArray[np.int64], NDArray[np.float32]]


class SettingJson(TypedDict, total=False):
    """Plain JSON of a `JpegSetting`: a quality where the tables are the standard's, else the tables."""

    quality: int
    luma: list[int]
    chroma: list[int] | None
    subsampling: str | None


class WeightedSetting(TypedDict):
    setting: SettingJson
    weight: float


class WeightedPhase(TypedDict):
    phase: list[int]
    weight: float


class CompressionJson(TypedDict):
    """Plain JSON of a `FolderCompression`."""

    examined: int
    settings: list[WeightedSetting]
    phases: list[WeightedPhase]


@cache
def standard_tables(quality: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Luma and chroma tables of an IJG quality, 1 to 100, row by row: annex K scaled, within 1 to 255."""
    if not 1 <= quality <= 100:
        raise DataError(f"JPEG quality {quality} is not in 1..100")
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luma, chroma = (
        tuple(min(255, max(1, (int(step) * scale + 50) // 100)) for step in table.split())
        for table in (_LUMA, _CHROMA)
    )
    return luma, chroma


def nearest_quality(luma: Sequence[int]) -> int:
    """The IJG quality whose luma table is nearest in the mean square of the steps' logarithms."""
    steps = np.log(np.asarray(luma, dtype=np.float64))
    distances = [np.mean((np.log(standard_tables(q)[0]) - steps) ** 2) for q in range(1, 101)]
    return 1 + int(np.argmin(distances))


@dataclass(frozen=True)
class JpegSetting:
    """What an encoder was told.

    luma, chroma: 64 quantisation steps each, row by row (vertical frequency first); chroma is None for
    grey pictures and where it could not be read. subsampling: "4:4:4", "4:2:2", "4:2:0", or None likewise.

    >>> JpegSetting.of_quality(75, "4:2:0").luma[:3]
    (8, 6, 5)
    """

    luma: tuple[int, ...]
    chroma: tuple[int, ...] | None = None
    subsampling: str | None = None

    @classmethod
    def of_quality(cls, quality: int, subsampling: str | None = "4:2:0") -> JpegSetting:
        """The standard's tables at an IJG quality, 1 to 100."""
        return cls(*standard_tables(quality), subsampling)

    @property
    def quality(self) -> int | None:
        """The IJG quality, if the tables are exactly the standard's; else None."""
        quality = nearest_quality(self.luma)
        luma, chroma = standard_tables(quality)
        return quality if self.luma == luma and self.chroma in (None, chroma) else None

    def to_dict(self) -> SettingJson:
        if self.quality is not None and self.chroma is not None:
            return {"quality": self.quality, "subsampling": self.subsampling}
        chroma = None if self.chroma is None else list(self.chroma)
        return {"luma": list(self.luma), "chroma": chroma, "subsampling": self.subsampling}

    @classmethod
    def from_dict(cls, values: SettingJson) -> JpegSetting:
        if "quality" in values:
            return cls.of_quality(values["quality"], values["subsampling"])
        chroma = values["chroma"]
        return cls(tuple(values["luma"]), None if chroma is None else tuple(chroma), values["subsampling"])


@dataclass(frozen=True)
class JpegHistory:
    """The last compression of one picture.

    phase: row and column of the first corner of the 8 x 8 grid, 0 to 7. confidence: 1 for a file's header;
    for pixels the share of the evidence for this grid that no other placement has, 0 to 1.
    """

    setting: JpegSetting
    phase: Phase
    confidence: float
    source: Literal["header", "pixels"]


@dataclass(frozen=True)
class FolderCompression:
    """How the pictures of a folder were compressed.

    examined: number of pictures looked at. settings, phases: what was found, most frequent first, each with
    its share of the pictures examined.
    """

    examined: int
    settings: tuple[tuple[JpegSetting, float], ...] = ()
    phases: tuple[tuple[Phase, float], ...] = ()

    @property
    def share(self) -> float:
        """Share of the pictures examined that show a compression."""
        return sum(weight for _, weight in self.settings)

    def to_dict(self) -> CompressionJson:
        return {
            "examined": self.examined,
            "settings": [{"setting": found.to_dict(), "weight": weight} for found, weight in self.settings],
            "phases": [{"phase": list(phase), "weight": weight} for phase, weight in self.phases],
        }

    @classmethod
    def from_dict(cls, values: CompressionJson) -> FolderCompression:
        return cls(
            examined=values["examined"],
            settings=tuple(
                (JpegSetting.from_dict(entry["setting"]), entry["weight"]) for entry in values["settings"]
            ),
            phases=tuple(
                ((entry["phase"][0], entry["phase"][1]), entry["weight"]) for entry in values["phases"]
            ),
        )


def compress(pixels_hwc: NDArray[np.uint8], setting: JpegSetting) -> NDArray[np.uint8]:
    """Compress and decode in memory, the grid anchored at the top-left pixel; the same input, the same bytes.

    pixels_hwc: uint8, H x W x 3. Returns the same. A setting without chroma takes the standard's chroma table
    of the nearest quality, one without subsampling 4:2:0. Raises DataError for any other kind of array.
    """
    _require_rgb8(pixels_hwc)
    chroma = setting.chroma or standard_tables(nearest_quality(setting.luma))[1]
    tables = [[min(step, 255) for step in table] for table in (setting.luma, chroma)]
    buffer = io.BytesIO()
    Pillow.fromarray(pixels_hwc).save(
        buffer, "JPEG", qtables=tables, subsampling=setting.subsampling or "4:2:0"
    )
    with Pillow.open(buffer) as decoded:
        return np.array(decoded.convert("RGB"))


def _require_rgb8(pixels_hwc: NDArray[np.uint8]) -> None:
    if pixels_hwc.dtype != np.uint8 or pixels_hwc.ndim != 3 or pixels_hwc.shape[2] != 3:
        raise DataError(f"JPEG needs uint8 pixels H x W x 3, got {pixels_hwc.dtype} {pixels_hwc.shape}")


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

    A coefficient's variance about its multiple is that of the decoder's rounding, and of the conversion. Where
    the upsampling was undone a second rounding is amplified, by 1/2 at frequency 0 to 2 at the highest.
    """
    angle = np.pi * np.arange(8) / 16
    undone = sum(((3 * np.cos(w) - np.cos(3 * w)) ** 2 / 8 for w in (angle, angle + np.pi / 2)))
    rows = undone if subsampling == "4:2:0" else np.ones(8)
    columns = np.ones(8) if subsampling == "4:4:4" else undone
    amplified = _CONVERSION + (_ROUNDING if subsampling != "4:4:4" else 0)
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

    sound: where pixels were not clipped. Blocks with clipped pixels are left out, and those that are flat along
    an axis, whose rounding errors repeat instead of being independent.
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
    return (3 * (a[:, 1:-1] + b[:, 1:-1]) - b[:, :-2] - a[:, 2:]) / 4


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
    best: tuple[float, str, NDArray[np.float32]] | None = None
    for subsampling, halved in zip(SUBSAMPLINGS, ((), (1,), (1, 0)), strict=True):
        seen, clear, starts = [*planes], sound.astype(np.float32), [[phase[0]], [phase[1]]]
        for axis in halved:
            turn = (lambda array: array.T) if axis == 0 else (lambda array: array)
            seen = [turn(_undo_upsampling(turn(plane), phase[axis] % 2)) for plane in seen]
            clear = turn(_undo_upsampling(turn(clear), phase[axis] % 2))
            first = phase[axis] // 2 - 1  # a block of 16 pixels starts at the phase or 8 pixels further on
            starts[axis] = [first % 8, (first + 4) % 8]
        phases = [(row, column) for row in starts[0] for column in starts[1]]
        of_planes = [
            _evidence(plane, clear == 1, phases, _evidence_tables(255, 512, subsampling)) for plane in seen
        ]
        for evidence in map(sum, zip(*of_planes, strict=True)):
            score = _total(evidence) if expected is None else float(_at(evidence, expected).sum())
            if score > (best[0] if best else _LEAST_NATS):
                best = score, subsampling, evidence
    return best[1:] if best else None


def _at(evidence: NDArray[np.float32], steps: NDArray[np.int64]) -> NDArray[np.float32]:
    """The evidence for one step at each frequency: 64."""
    return np.take_along_axis(evidence, steps[:, None] - 1, axis=1)[:, 0]


def _fit(evidence: NDArray[np.float32], standard: NDArray[np.int64]) -> tuple[int, ...]:
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


def read_pixels(pixels_hwc: NDArray[np.uint8]) -> JpegHistory | None:
    """The last compression that decoded pixels show, or None: never compressed, or changed since then.

    The grid is searched among its 64 places in the middle, by the evidence for steps of the luma
    coefficients; then the steps are read, and those of chroma at each subsampling and placement of its blocks.
    A step for which there is too little evidence is the standard's at the quality that the others support.
    Noise, filtering or scaling after the compression leave None, by design. Of two compressions on one grid
    the coarser steps can be found where the finer divide them: both explain the pixels.

    pixels_hwc: uint8, H x W x 3. Raises DataError for any other kind of array.
    """
    _require_rgb8(pixels_hwc)
    if min(pixels_hwc.shape[:2]) < 24:
        return None
    window = centre(pixels_hwc, READ_SIDE)
    sound = ((window > 0) & (window < 255)).all(axis=-1)
    planes = _ycbcr(window)
    phases = [(row, column) for row in range(8) for column in range(8)]
    search = (centre(planes[0], SEARCH_SIDE), centre(sound, SEARCH_SIDE))
    totals = [_total(found) for found in _evidence(*search, phases, _evidence_tables(48, 128, "4:4:4"))]
    order = np.argsort(totals)
    best, second = totals[order[-1]], totals[order[-2]]
    if best < max(second + _LEAST_NATS, 1.5 * second):
        return None
    phase = phases[order[-1]]
    (luma,) = _evidence(planes[0], sound, [phase], _evidence_tables(255, 512, "4:4:4"))
    standard = np.array(standard_tables(_best_quality(luma)))
    luma_steps = _fit(luma, standard[0])
    is_standard = luma_steps == tuple(standard[0])
    chroma = _read_chroma(planes[1:], sound, phase, standard[1] if is_standard else None)
    setting = JpegSetting(
        luma=luma_steps,
        chroma=None if chroma is None else _fit(chroma[1], standard[1]),
        subsampling=None if chroma is None else chroma[0],
    )
    return JpegHistory(setting, phase, confidence=1 - second / best, source="pixels")


def _read_header(path: Path) -> JpegHistory | None:
    """What a JPEG file states of itself; None for other formats."""
    try:
        with open_header(path) as image:
            if not isinstance(image, JpegImagePlugin.JpegImageFile):
                return None
            tables = [tuple(table) for _, table in sorted(image.quantization.items())]
            sampling, components = JpegImagePlugin.get_sampling(image), image.layers
    except DECODE_ERRORS as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not tables:
        return None
    subsampling = SUBSAMPLINGS[sampling] if components > 1 and sampling >= 0 else None
    setting = JpegSetting(tables[0], tables[-1] if components > 1 else None, subsampling)
    return JpegHistory(setting, (0, 0), confidence=1.0, source="header")


def read_history(picture: Path | NDArray[np.uint8]) -> JpegHistory | None:
    """The last compression of a picture: by its header if it is a JPEG file, else by its pixels.

    Raises DataError for a file that cannot be read, naming it, and for an array that is not RGB of 8 bits.
    """
    if isinstance(picture, Path):
        found = _read_header(picture)
        if found is not None:
            return found
        with naming(picture, DataError):
            return read_pixels(read_rgb8(picture))
    return read_pixels(picture)


def read_folder_compression(
    pictures: Sequence[Path | NDArray[np.uint8]], most: int = MOST_PICTURES
) -> FolderCompression:
    """How a folder's pictures, paths or pixels, were compressed, by at most ``most`` of them evenly spread.

    Takes about a quarter of a second for each picture that is not a JPEG file. Errors as `read_history`.
    """
    examined = evenly_spread(pictures, most) if len(pictures) else []
    found = [history for picture in examined if (history := read_history(picture)) is not None]
    settings, phases = Counter(each.setting for each in found), Counter(each.phase for each in found)
    return FolderCompression(
        examined=len(examined),
        settings=tuple((setting, count / len(examined)) for setting, count in settings.most_common()),
        phases=tuple((phase, count / len(examined)) for phase, count in phases.most_common()),
    )
