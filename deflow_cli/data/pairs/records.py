"""Pairs: a large clean picture (gt) and its small degraded one (lq), planned, encoded, stored, read back."""

from __future__ import annotations

import os
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, overload

import cv2
import numpy as np

from deflow_cli.arrays import Pixels
from deflow_cli.data.contents import FileSpan, content_text
from deflow_cli.errors import DataError, unwritable

SIDES = ("gt", "lq")
STAGING = ".deflow-tmp"  # beside gt/ and lq/, where trainers trip over a file that is no image
MAKE_AGAIN = "run the command that made it again, or copy it again"  # what to do about a damaged container
GOES_ON = "the same command goes on where it stopped"
_PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


class Pair(NamedTuple):
    """A pair as training takes it: gt is H x W x 3 uint8 RGB, lq the same at 1 / scale of the size."""

    key: str
    gt: Pixels
    lq: Pixels


@dataclass(frozen=True)
class PairSlot:
    """A pair before it is made. image: the source it is cut from, counted from 0. row: its provenance.

    key: its name in every format. gt_size, lq_size: (height, width).
    """

    key: str
    image: int
    gt_size: tuple[int, int]
    lq_size: tuple[int, int]
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Its two sizes by side."""
        return dict(zip(SIDES, (self.gt_size, self.lq_size), strict=True))


@dataclass(frozen=True)
class EncodedPair:
    """A pair as it is stored: two PNG files."""

    slot: PairSlot
    gt: bytes
    lq: bytes


class PairWriter(Protocol):
    """Stores pairs under a folder, and goes on where an earlier one was interrupted.

    Pairs come in the order of the slots, those of one image at once. What is stored does not depend on
    interruptions.
    """

    def missing(self, keys: Collection[str] | None = None) -> set[str]:
        """Keys that are not stored yet, or not whole; all of them are to be written.

        keys: those to look at, the pairs of whole units; None: all of them.
        """
        ...

    def write(self, pairs: Sequence[EncodedPair]) -> None:
        """Store the missing pairs of one image."""
        ...

    def finish(self) -> None:
        """Complete what is stored: all pairs have been written."""
        ...

    def close(self) -> None:
        """Release files, complete or not; may be called twice."""
        ...


class Pairs(ABC, Sequence[Pair]):
    """Stored pairs by index, each decoded when it is asked for; can be pickled and used by many processes."""

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        self.path = Path(path)
        self.keys = tuple(keys)

    @abstractmethod
    def spans(self, index: int) -> tuple[FileSpan, FileSpan]:
        """Where the two image files of a pair lie, gt first. index: from 0."""

    def encoded(self, index: int) -> tuple[bytes, bytes]:
        """The two image files of a pair, gt first. Raises DataError where one is not there whole."""
        gt, lq = (self._read(span, self.keys[index]) for span in self.spans(index))
        return gt, lq

    def contents(self) -> dict[str, str]:
        """A short text of each file's content by its key and side."""
        return {
            f"{self.keys[index]} ({side})": content_text(span)
            for index in range(len(self))
            for side, span in zip(SIDES, self.spans(index), strict=True)
        }

    def _read(self, span: FileSpan, key: str) -> bytes:
        try:
            with span.path.open("rb") as file:
                file.seek(span.offset)
                content = file.read(span.size)
        except OSError as error:
            raise DataError(f"{span.path}: cannot be read ({error.strerror or error})") from error
        if len(content) != span.size:
            raise DataError(
                f"{span.path}: incomplete: {key} is not there whole",
                next_step=f"make the data set anew: {MAKE_AGAIN}",
            )
        return content

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> Pair: ...

    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...

    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        """One pair, or a list of them for a slice. Raises DataError naming a pair that cannot be read."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        index = index % len(self)
        gt, lq = self._decoded(index)
        height, width = lq.shape[0] * self.scale, lq.shape[1] * self.scale
        if gt.shape[:2] != (height, width):
            raise DataError(
                f"{self.path}: pair {self.keys[index]}: gt is {gt.shape[1]}x{gt.shape[0]}, lq"
                f" {lq.shape[1]}x{lq.shape[0]}; expected {self.scale} times the size",
                next_step="remove this pair, or make the data set anew",
            )
        return Pair(self.keys[index], gt, lq)

    def __iter__(self) -> Iterator[Pair]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def scale(self) -> int:
        """How many times larger gt is than lq, by the first pair."""
        gt, lq = self._decoded(0)
        scale = gt.shape[0] // lq.shape[0]
        if scale < 1 or gt.shape[:2] != (lq.shape[0] * scale, lq.shape[1] * scale):
            raise DataError(
                f"{self.path}: pair {self.keys[0]}: gt is {gt.shape[1]}x{gt.shape[0]}, lq"
                f" {lq.shape[1]}x{lq.shape[0]}; expected a whole multiple",
                next_step="crop gt to a multiple of lq",
            )
        return scale

    def _decoded(self, index: int) -> tuple[Pixels, Pixels]:
        gt, lq = (
            decode_rgb8(data, f"{self.path}: {side} of pair {self.keys[index]}")
            for side, data in zip(SIDES, self.encoded(index), strict=True)
        )
        return gt, lq


def encode_png(pixels: Pixels) -> bytes:
    """PNG of H x W x 3 RGB. One encoder at one level for all formats, so that equal pictures are equal files.

    Level 1, as the tools of common trainers use: higher levels save 5 % and decode no faster.
    """
    done, data = cv2.imencode(".png", pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done
    return data.tobytes()


def decode_rgb8(data: bytes, name: str) -> Pixels:
    """H x W x 3 RGB of an image file's bytes, as trainers decode it. Raises DataError naming ``name``."""
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        array = None
    if array is None:
        raise DataError(f"{name} cannot be decoded", next_step="remove this pair, or make the data set anew")
    return np.ascontiguousarray(array[..., ::-1].astype(np.uint8, copy=False))


def is_whole_png(content: bytes, size: tuple[int, int]) -> bool:
    """Whether bytes are a PNG file of (height, width) px, from its first chunk to its last.

    Each chunk's checksum is compared (PNG specification, section 5.3), so no other damage than one that keeps
    all checksums is overlooked.
    """
    if not content.startswith(_PNG_START) or not content.endswith(PNG_END):
        return False
    if struct.unpack_from(">II", content, 16) != size[::-1]:
        return False
    place = len(_PNG_START)
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        end = place + 8 + length
        if end + 4 > len(content) or zlib.crc32(content[place + 4 : end]) != int.from_bytes(
            content[end : end + 4], "big"
        ):
            return False
        place = end + 4
    return place == len(content)


def is_whole_png_file(path: Path, size: tuple[int, int]) -> bool:
    """Whether a file is there and a whole PNG of (height, width) px."""
    try:
        return is_whole_png(path.read_bytes(), size)
    except OSError:
        return False


def store(path: Path, content: bytes, staging: Path) -> None:
    """Write a file to ``staging``, on the same file system, and rename it: never half a file at ``path``."""
    temporary = staging / f"{path.name}.{os.getpid()}"
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error, next_step=GOES_ON) from error
    finally:
        temporary.unlink(missing_ok=True)
