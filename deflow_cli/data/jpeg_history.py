"""JPEG history: the tables, chroma subsampling and block grid that pictures were compressed with.

A JPEG file states them; a lossless picture that was decoded from one still shows them, see `jpeg_lattice`.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import JpegImagePlugin

from deflow_cli.data.folder_sample import evenly_spread
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.images.formats.opening import DECODE_ERRORS, open_header
from deflow_cli.data.jpeg_lattice import (
    SUBSAMPLINGS,
    Phase,
    Table,
    nearest_quality,
    read_lattice,
    standard_tables,
)
from deflow_cli.errors import DataError

MOST_PICTURES = 60
MOST_SIDE = 65500  # px, of a JPEG that libjpeg writes


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


@dataclass(frozen=True)
class JpegSetting:
    """What an encoder was told.

    luma, chroma: 64 quantisation steps each, row by row (vertical frequency first); chroma is None for
    grey pictures and where it could not be read. subsampling: "4:4:4", "4:2:2", "4:2:0", or None likewise.

    >>> JpegSetting.of_quality(75, "4:2:0").luma[:3]
    (8, 6, 5)
    """

    luma: Table
    chroma: Table | None = None
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
        return min(1.0, math.fsum(weight for _, weight in self.settings))

    @property
    def found(self) -> int:
        """Number of the pictures examined that show a compression."""
        return round(self.share * self.examined)

    @property
    def qualities(self) -> list[int]:
        """IJG qualities nearest to the settings' luma tables, in ascending order."""
        return sorted({nearest_quality(setting.luma) for setting, _ in self.settings})

    @property
    def subsamplings(self) -> list[str]:
        """The chroma subsamplings of the settings, most frequent first."""
        named = (setting.subsampling for setting, _ in self.settings if setting.subsampling is not None)
        return list(dict.fromkeys(named))

    @property
    def usual_quality(self) -> int | None:
        """Median quality over the pictures that show a compression; None without any."""
        ranked = sorted((nearest_quality(setting.luma), weight) for setting, weight in self.settings)
        seen = 0.0
        for quality, weight in ranked:
            seen += weight
            if 2 * seen >= self.share:
                return quality
        return None

    @property
    def text(self) -> str:
        """The range of qualities and the subsamplings.

        >>> FolderCompression(4, ((JpegSetting.of_quality(90), 0.5), (JpegSetting.of_quality(97), 0.5))).text
        'quality 90 to 97, 4:2:0'
        """
        qualities = self.qualities
        span = f"{qualities[0]} to {qualities[-1]}" if len(qualities) > 1 else f"{qualities[0]}"
        return ", ".join([f"quality {span}", *self.subsamplings])

    def setting_at(self, uniform: float) -> JpegSetting | None:
        """The setting of a picture drawn like those examined, by a number drawn uniformly from [0, 1).

        None with the probability of a picture that shows no compression.
        """
        for setting, weight in self.settings:
            if uniform < weight:
                return setting
            uniform -= weight
        return None

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
    of the nearest quality, one without subsampling 4:2:0. Raises DataError for any other kind of array, and
    for sides that a JPEG cannot have.
    """
    _require_rgb8(pixels_hwc)
    chroma = setting.chroma or standard_tables(nearest_quality(setting.luma))[1]
    tables = [[min(step, 255) for step in table] for table in (setting.luma, chroma)]
    if max(pixels_hwc.shape[:2]) > MOST_SIDE:
        raise DataError(f"a side of {max(pixels_hwc.shape[:2])} px; a JPEG has at most {MOST_SIDE}")
    buffer = io.BytesIO()
    Pillow.fromarray(pixels_hwc).save(
        buffer, "JPEG", qtables=tables, subsampling=setting.subsampling or "4:2:0"
    )
    with open_header(buffer) as decoded:  # without Pillow's limit on the size of a picture
        return np.array(decoded.convert("RGB"))


def compress_alike(
    pixels_hwc: NDArray[np.uint8], compression: FolderCompression, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Compress a picture by a setting drawn as often as the folder has it; one number is drawn.

    A picture for which no compression is drawn is returned as it is. Arrays and errors as for `compress`.

    >>> folder = FolderCompression(examined=4, settings=((JpegSetting.of_quality(30), 1.0),))
    >>> ramp = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    >>> compressed = compress_alike(ramp, folder, np.random.default_rng(0))
    >>> bool((compressed == compress(ramp, JpegSetting.of_quality(30))).all())
    True
    """
    setting = compression.setting_at(random.random())
    return pixels_hwc if setting is None else compress(pixels_hwc, setting)


def _require_rgb8(pixels_hwc: NDArray[np.uint8]) -> None:
    if pixels_hwc.dtype != np.uint8 or pixels_hwc.ndim != 3 or pixels_hwc.shape[2] != 3:
        raise DataError(f"JPEG needs uint8 pixels H x W x 3, got {pixels_hwc.dtype} {pixels_hwc.shape}")


def read_pixels(pixels_hwc: NDArray[np.uint8]) -> JpegHistory | None:
    """The last compression that decoded pixels show, or None: never compressed, or changed since then.

    Noise, filtering or scaling after the compression leave None, by design. Of two compressions on one grid
    the coarser steps can be found where the finer divide them: both explain the pixels.

    pixels_hwc: uint8, H x W x 3. Raises DataError for any other kind of array.
    """
    _require_rgb8(pixels_hwc)
    found = read_lattice(pixels_hwc)
    if found is None:
        return None
    setting = JpegSetting(found.luma, found.chroma, found.subsampling)
    return JpegHistory(setting, found.phase, found.confidence, source="pixels")


def _read_header(path: Path) -> JpegHistory | None:
    """What a JPEG file states of itself; None for other formats."""
    try:
        with open_header(path) as image:
            if not isinstance(image, JpegImagePlugin.JpegImageFile):
                return None
            tables = [tuple(table) for _, table in sorted(image.quantization.items())]
            sampling, components = JpegImagePlugin.get_sampling(image), image.layers
    except DECODE_ERRORS:
        return None  # what Pillow cannot open our reader may, or it says what is wrong
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
        return _read_header(picture) or read_pixels(read_rgb8(picture))
    return read_pixels(picture)


def _joined(history: JpegHistory, seen: Counter[JpegSetting]) -> JpegSetting:
    """The setting under which a folder counts a picture: its own, or a more frequent one that explains it.

    Where chroma could not be read, one that agrees in all that could. Tables read from pixels that are not
    the standard's differ from picture to picture in steps that too few coefficients tell: there, one of the
    same subsampling and nearest quality.
    """
    setting = history.setting
    uncertain = history.source == "pixels" and setting.quality is None
    for other, _ in seen.most_common():
        if other.chroma is None or other.subsampling is None:
            continue
        if setting.subsampling not in (None, other.subsampling):
            continue
        if other.luma == setting.luma and setting.chroma in (None, other.chroma):
            return other
        if uncertain and nearest_quality(other.luma) == nearest_quality(setting.luma):
            return other
    return setting


def read_folder_compression(
    pictures: Sequence[Path | NDArray[np.uint8]], most: int = MOST_PICTURES
) -> FolderCompression:
    """How a folder's pictures, paths or pixels, were compressed, by at most ``most`` of them evenly spread.

    What a picture is too plain to show is taken from the others of the same table or quality. Takes about a
    fifth of a second for each picture that is not a JPEG file. Errors as `read_history`.
    """
    examined = evenly_spread(pictures, most) if len(pictures) else []
    return folder_compression([read_history(picture) for picture in examined])


def folder_compression(histories: Sequence[JpegHistory | None]) -> FolderCompression:
    """What a folder's pictures show together; None stands for one that shows no compression."""
    found = [history for history in histories if history is not None]
    seen = Counter(each.setting for each in found)
    settings = Counter(_joined(each, seen) for each in found)
    phases = Counter(each.phase for each in found)
    return FolderCompression(
        examined=len(histories),
        settings=tuple((setting, count / len(histories)) for setting, count in settings.most_common()),
        phases=tuple((phase, count / len(histories)) for phase, count in phases.most_common()),
    )
