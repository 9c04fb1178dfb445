"""TIFF: its pages, decoding of 16 bits per channel, encoding of 8 and 16, with colour profile and EXIF."""

from __future__ import annotations

import mmap
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deflow_cli.data.images.formats.opencv import decode_unchanged
from deflow_cli.data.images.formats.tiff_channels import decode_channels

_STRIP_BYTES = 1 << 20
_ORIENTATION = 274
_SUB_PAGES = 330
_MOST_PAGES = 4096
_TAGS = frozenset({254, 256, 257, 258, 262, _ORIENTATION, 277, 284, _SUB_PAGES, 338, 339})
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # struct letters of the types that hold these


@dataclass(frozen=True)
class TiffPage:
    """A directory of a TIFF file: its place, its numbers by tag, and where the orientation's value stands."""

    order: str
    offset: int
    values: dict[int, tuple[int, ...]]
    orientation_at: int | None

    def first(self, tag: int, default: int) -> int:
        found = self.values.get(tag)
        return found[0] if found else default

    @property
    def width(self) -> int:
        return self.first(256, 0)

    @property
    def height(self) -> int:
        return self.first(257, 0)

    @property
    def bits(self) -> int:
        return max(self.values.get(258, (1,)))

    @property
    def orientation(self) -> int:
        found = self.first(_ORIENTATION, 1)
        return found if 1 <= found <= 8 else 1

    @property
    def colours(self) -> int:
        """Channels of gray, RGB or a palette; 0 of other colour spaces."""
        return {0: 1, 1: 1, 2: 3, 3: 1}.get(self.first(262, 2), 0)

    @property
    def extra_channels(self) -> int:
        """Channels beyond those of the colours."""
        return max(0, self.first(277, 1) - self.colours) if self.colours else 0

    @property
    def has_alpha(self) -> bool:
        """Whether the first extra channel is transparency: it says so, or nothing is said (code 338)."""
        return self.extra_channels > 0 and self.first(338, 2) in (1, 2)

    @property
    def is_image(self) -> bool:
        """Whether it is neither a reduced version, nor a mask, nor the unprocessed data of a camera."""
        return not self.first(254, 0) & 5 and self.first(262, 2) not in (4, 32803, 34892)

    @property
    def trouble(self) -> str:
        """Why this page's samples cannot be used, or an empty string."""
        sample = self.first(339, 1)
        kind = {2: "signed integer", 3: "floating point", 5: "complex", 6: "complex"}.get(sample, "")
        if kind or self.bits > 16:
            return (
                f"it holds {self.bits}-bit {kind or 'integer'} samples; only unsigned 8 and 16 bit are read"
            )
        if self.bits == 16:
            samples, colours = self.first(277, 1), self.colours
            if colours and samples < colours:
                return f"it holds {samples} channels of 16 bit; {colours} or more are expected"
            if samples > 1 and self.first(284, 1) == 2:
                return "its 16-bit channels are stored as separate planes"
            if self.first(262, 2) not in (0, 1, 2):
                return f"its 16-bit colour space (photometric {self.first(262, 2)}) is neither gray nor RGB"
        return ""


class TiffFile:
    """The pages of a TIFF file, classic or Big, and which of them is the image.

    Raises ValueError where the first page's directory is cut off.
    """

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        self._order = {b"II": "<", b"MM": ">"}[data[:2]]
        self._big = struct.unpack_from(self._order + "H", data, 2)[0] == 43
        self._start_at = 8 if self._big else 4  # where the file says where its first directory is
        self.pages = self._read_pages()

    @property
    def main(self) -> TiffPage:
        """The largest page at full resolution; the first of equals, and of all where none says that it is."""
        pages = [page for page in self.pages if page.is_image] or self.pages
        return max(pages, key=lambda page: page.width * page.height)

    @property
    def note(self) -> str:
        """That other images are left out, or nothing; reduced versions of it and masks are no loss."""
        count = sum(page.is_image for page in self.pages)
        if count < 2:
            return ""
        number = self.pages.index(self.main) + 1
        return f"holds {count} pages; only page {number} ({self.main.width}x{self.main.height}) is used"

    def check(self) -> None:
        """Raise ValueError where the samples of the main page are of a kind that is not read."""
        if self.main.trouble:
            raise ValueError(self.main.trouble)
        if not self.main.width or not self.main.height:
            raise ValueError("its directory names no size")

    def alone(self) -> bytes:
        """The file with its main page first and that page's orientation undone, for decoders.

        They take the first page, and some turn it: here the caller turns it, for every format alike.
        """
        page = self.main
        if page is self.pages[0] and page.orientation == 1:
            return bytes(self._data)
        patched = bytearray(self._data)
        struct.pack_into(self._order + ("Q" if self._big else "I"), patched, self._start_at, page.offset)
        if page.orientation_at is not None:
            struct.pack_into(self._order + "H", patched, page.orientation_at, 1)
        return bytes(patched)

    def _read_pages(self) -> list[TiffPage]:
        data, whole = self._data, self._order + ("Q" if self._big else "I")
        try:
            start = struct.unpack_from(whole, data, self._start_at)[0]
            pages: list[TiffPage] = []
            waiting, seen = [start], {0}
            while waiting and len(pages) < _MOST_PAGES:
                offset = waiting.pop(0)
                if offset in seen:
                    continue
                seen.add(offset)
                try:
                    page, following = self._read_page(offset)
                except (struct.error, OverflowError):
                    if not pages:
                        raise
                    continue  # what follows the image is damaged, which does not harm it
                pages.append(page)
                waiting += [*page.values.get(_SUB_PAGES, ()), following]
        except (struct.error, OverflowError) as error:
            raise ValueError("its directory lies beyond the end of the file (truncated)") from error
        if not pages:
            raise ValueError("it has no directory")
        return pages

    def _read_page(self, start: int) -> tuple[TiffPage, int]:
        """The page whose directory starts there, and where the next directory starts."""
        data, order, big = self._data, self._order, self._big
        whole = order + ("Q" if big else "I")
        count = struct.unpack_from(order + ("Q" if big else "H"), data, start)[0]
        first, width, inline = (start + 8, 20, 8) if big else (start + 2, 12, 4)
        end = first + width * count
        values: dict[int, tuple[int, ...]] = {}
        orientation_at = None
        struct.unpack_from("B", data, end - 1)  # the whole directory is there
        for entry in range(first, end, width):
            tag, kind = struct.unpack_from(order + "HH", data, entry)
            length = struct.unpack_from(whole, data, entry + 4)[0]
            where = entry + width - inline
            letter = _NUMBERS.get(kind)
            if letter is None or length > 64 or tag not in _TAGS:
                continue
            size = struct.calcsize(order + letter)
            if length * size > inline:
                where = struct.unpack_from(whole, data, where)[0]
            values[tag] = struct.unpack_from(f"{order}{length}{letter}", data, where)
            if tag == _ORIENTATION and kind == 3:
                orientation_at = where
        try:
            following = struct.unpack_from(whole, data, end)[0]
        except struct.error:
            following = 0
        return TiffPage(order, start, values, orientation_at), following


def is_tiff(data: bytes | mmap.mmap) -> bool:
    """Whether the bytes start a classic or a Big TIFF file."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") and len(data) >= 8


def decode_tiff16(data: bytes, page: TiffPage) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None]:
    """Samples H x W (gray) or H x W x 3 RGB as stored, and alpha H x W or None, of a file's first page.

    page: what its directory says. Raises ValueError with the reason when the file is broken.
    """
    channels, colours = page.first(277, 1), page.colours
    if channels == colours or (colours, channels) == (3, 4):
        array = decode_unchanged(data)
        if array is None or array.dtype != np.uint16:
            raise ValueError("its pixels cannot be decoded (truncated, or of an unusual compression)")
        array = array[..., None] if array.ndim == 2 else array[..., [2, 1, 0, 3][: array.shape[2]]]
    else:
        array = decode_channels(data, page.offset, channels)
    pixels = np.ascontiguousarray(array[..., :colours])
    if page.first(262, 1) == 0:
        pixels = 65535 - pixels
    alpha = None
    if page.has_alpha and array.shape[2] > colours:
        alpha = np.ascontiguousarray(array[..., colours])
        if page.first(338, 2) == 1:  # colours were multiplied by alpha
            share = np.maximum(alpha, 1)[..., None] / 65535
            pixels = np.minimum(np.floor(pixels / share + 0.5), 65535).astype(np.uint16)
    return (pixels[..., 0] if colours == 1 else pixels), alpha


def _exif_entries(block: bytes, order: str) -> dict[int, bytes]:
    """Raw directory entries by tag of a TIFF block; their offsets stay valid while it starts the file."""
    start = struct.unpack_from(order + "I", block, 4)[0]
    count = struct.unpack_from(order + "H", block, start)[0]
    entries = (block[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count))
    return {struct.unpack_from(order + "H", entry)[0]: entry for entry in entries if len(entry) == 12}


class _Writer:
    """A TIFF file in the making: bytes so far and directory entries by tag.

    An EXIF block is a TIFF file itself: the output starts with it, so that the offsets within it hold,
    and a new directory at the end joins its entries with those of the image.
    """

    def __init__(self, exif: bytes | None) -> None:
        block = (exif or b"").removeprefix(b"Exif\0\0")
        usable = len(block) >= 8
        self.order = {b"II": "<", b"MM": ">"}.get(block[:2], "<")
        self.out = bytearray(block if usable else b"II" + struct.pack("<HI", 42, 8))
        self.entries = _exif_entries(block, self.order) if usable else {}

    def add(self, tag: int, kind: int, values: list[int] | bytes) -> None:
        """Add an entry: kind 3 short, 4 long, 7 bytes; what is longer than its field goes to the file."""
        length = len(values)
        if isinstance(values, bytes):
            body = values
        else:
            body = struct.pack(f"{self.order}{length}{'HI'[kind - 3]}", *values)
        if len(body) > 4:
            self.pad()
            place = struct.pack(self.order + "I", len(self.out))
            self.out.extend(body)
        else:
            place = body.ljust(4, b"\0")
        self.entries[tag] = struct.pack(self.order + "HHI", tag, kind, length) + place

    def pad(self) -> None:
        self.out.extend(b"\0" * (len(self.out) % 2))

    def finish(self) -> bytes:
        self.pad()
        struct.pack_into(self.order + "I", self.out, 4, len(self.out))
        self.out.extend(struct.pack(self.order + "H", len(self.entries)))
        self.out.extend(b"".join(self.entries[tag] for tag in sorted(self.entries)))
        self.out.extend(struct.pack(self.order + "I", 0))
        return bytes(self.out)


def encode_tiff(samples_hwc: NDArray[Any], *, icc: bytes | None, exif: bytes | None) -> bytes:
    """TIFF file of H x W x C uint8 or uint16 samples, deflated with horizontal prediction.

    C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA. exif: a TIFF block, with or without ``Exif\\0\\0`` in front.
    Raises ValueError above 4 GiB, the end of classic TIFF.
    """
    height, width, channels = samples_hwc.shape
    depth = samples_hwc.dtype.itemsize
    writer = _Writer(exif)
    rows = max(1, _STRIP_BYTES // (width * channels * depth))
    offsets, counts = [], []
    for top in range(0, height, rows):
        strip = samples_hwc[top : top + rows].copy()
        strip[:, 1:] -= samples_hwc[top : top + rows, :-1]
        packed = zlib.compress(strip.astype(f"{writer.order}u{depth}").tobytes(), 6)
        offsets.append(len(writer.out))
        counts.append(len(packed))
        writer.out.extend(packed)
        if len(writer.out) > 0xF0000000:
            raise ValueError("it would be larger than 4 GiB, which TIFF cannot hold")
    writer.add(256, 4, [width])
    writer.add(257, 4, [height])
    writer.add(258, 3, [8 * depth] * channels)
    writer.add(259, 3, [8])  # deflate
    writer.add(262, 3, [1 if channels < 3 else 2])
    writer.add(273, 4, offsets)
    writer.add(_ORIENTATION, 3, [1])
    writer.add(277, 3, [channels])
    writer.add(278, 4, [rows])
    writer.add(279, 4, counts)
    writer.add(284, 3, [1])
    writer.add(317, 3, [2])  # horizontal prediction
    if channels in (2, 4):
        writer.add(338, 3, [2])
    writer.add(339, 3, [1] * channels)
    if icc:
        writer.add(34675, 7, icc)
    return writer.finish()
