"""TIFF: inspecting and decoding 16 bits per channel, encoding 8 and 16, with colour profile and EXIF."""

from __future__ import annotations

import mmap
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deflow_cli.data.images.formats.opencv import decode_unchanged

_STRIP_BYTES = 1 << 20
_ORIENTATION = 274


@dataclass(frozen=True)
class TiffHeader:
    """First image of a TIFF file: short values by tag, and where the orientation's value stands."""

    order: str
    values: dict[int, tuple[int, ...]]
    orientation_at: int | None

    def first(self, tag: int, default: int) -> int:
        found = self.values.get(tag)
        return found[0] if found else default

    @property
    def bits(self) -> int:
        return max(self.values.get(258, (1,)))

    @property
    def trouble(self) -> str:
        """Why this file's samples cannot be used, or an empty string."""
        sample = self.first(339, 1)
        kind = {2: "signed integer", 3: "floating point", 5: "complex", 6: "complex"}.get(sample, "")
        if kind or self.bits > 16:
            return (
                f"it holds {self.bits}-bit {kind or 'integer'} samples; only unsigned 8 and 16 bit are read"
            )
        if self.bits == 16:
            samples = self.first(277, 1)
            if samples not in (1, 3, 4):
                return f"it holds {samples} channels of 16 bit; 1, 3 or 4 are read"
            if samples > 1 and self.first(284, 1) == 2:
                return "its 16-bit channels are stored as separate planes"
            if self.first(262, 2) not in (0, 1, 2):
                return f"its 16-bit colour space (photometric {self.first(262, 2)}) is neither gray nor RGB"
        return ""


def read_header(data: bytes | mmap.mmap) -> TiffHeader | None:
    """Header of classic or Big TIFF bytes; None for other files. Raises ValueError where it is cut off."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return None
    version = struct.unpack_from(order + "H", data, 2)[0]
    if version not in (42, 43):
        return None
    big = version == 43
    values: dict[int, tuple[int, ...]] = {}
    orientation_at = None
    try:
        start = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
        count = struct.unpack_from(order + ("Q" if big else "H"), data, start)[0]
        first, width, inline = (start + 8, 20, 8) if big else (start + 2, 12, 4)
        for entry in range(first, first + width * count, width):
            tag, kind = struct.unpack_from(order + "HH", data, entry)
            length = struct.unpack_from(order + ("Q" if big else "I"), data, entry + 4)[0]
            where = entry + width - inline
            if kind != 3 or length > 64:
                continue
            if length * 2 > inline:
                where = struct.unpack_from(order + ("Q" if big else "I"), data, where)[0]
            values[tag] = struct.unpack_from(f"{order}{length}H", data, where)
            if tag == _ORIENTATION:
                orientation_at = where
    except struct.error as error:
        raise ValueError("its directory lies beyond the end of the file (truncated)") from error
    return TiffHeader(order, values, orientation_at)


def decode_tiff16(
    data: bytes, header: TiffHeader
) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None, bool]:
    """Pixels H x W x 3 RGB as stored (orientation not applied), alpha H x W or None, whether it is gray.

    Raises ValueError with the reason when the file is broken.
    """
    if header.orientation_at is not None:  # OpenCV would apply it; the caller does, for every format alike
        patched = bytearray(data)
        struct.pack_into(header.order + "H", patched, header.orientation_at, 1)
        data = bytes(patched)
    array = decode_unchanged(data)
    if array is None or array.dtype != np.uint16:
        raise ValueError("its pixels cannot be decoded (truncated, or of an unusual compression)")
    if array.ndim == 2:
        if header.first(262, 1) == 0:
            array = 65535 - array
        return np.repeat(array[..., None], 3, -1), None, True
    pixels = np.ascontiguousarray(array[..., 2::-1])
    alpha = np.ascontiguousarray(array[..., 3]) if array.shape[2] == 4 else None
    if alpha is not None and header.first(338, 2) == 1:  # colours were multiplied by alpha
        share = np.maximum(alpha, 1)[..., None] / 65535
        pixels = np.minimum(np.floor(pixels / share + 0.5), 65535).astype(np.uint16)
    return pixels, alpha, False


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
