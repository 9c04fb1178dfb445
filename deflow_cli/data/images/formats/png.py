"""PNG: its chunks, also of damaged files, transparency by a colour, and decoding and encoding of 16 bits."""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deflow_cli.data.images.formats.opencv import decode_unchanged
from deflow_cli.data.images.formats.png_pixels import is_complete, unpacked, unpacked_size

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST_PROFILE = 1 << 20  # bytes of an unpacked profile; common readers refuse a file with a larger one
_MOST_PROFILE = 64 << 20  # bytes that are unpacked at most
_TAIL = 1 << 16
_PIECE = 1 << 30  # bytes of a chunk of pixels; PNG allows twice as many
_ROWS = 64  # rows filtered and compressed at a time
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_USED = (b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"acTL")
_HARMLESS = (*_CRITICAL, b"pHYs", b"gAMA", b"sRGB", b"cHRM", b"bKGD", b"tIME")  # decoders skip them
# By colour type.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}

Buffer = bytes | mmap.mmap


@dataclass
class PngContent:
    """A PNG file taken apart. width to interlaced: of its header. chunks: the first of each kind but IDAT.

    idat: the compressed pixels. frames: of the animation, 1 without. notes: damage that costs no pixels, in
    words that follow the file's name. source: the whole file, where decoders can take it as it is.
    """

    width: int = 0
    height: int = 0
    depth: int = 0
    colour: int = 0
    interlaced: bool = False
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    idat: list[memoryview] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    source: bytes | None = None

    @property
    def gray(self) -> bool:
        return self.colour in (0, 4)

    @property
    def has_alpha(self) -> bool:
        in_palette = self.colour == 3 and b"tRNS" in self.chunks
        return self.colour in (4, 6) or in_palette or self.transparent() is not None

    @property
    def frames(self) -> int:
        body = self.chunks.get(b"acTL", b"")
        return max(1, struct.unpack(">I", body[:4])[0]) if len(body) >= 4 else 1

    @property
    def exif(self) -> bytes | None:
        return self.chunks.get(b"eXIf")

    def begin(self, body: bytes) -> None:
        """Take the header. Raises ValueError where it is none."""
        if len(body) != 13:
            raise ValueError(f"its header has {len(body)} bytes, not 13")
        self.width, self.height, self.depth, self.colour = struct.unpack(">IIBB", body[:10])
        self.interlaced = body[12] == 1
        if not self.width or not self.height or self.depth not in _DEPTHS.get(self.colour, ()):
            size = f"{self.width}x{self.height}"
            raise ValueError(f"its header says {size}, colour type {self.colour} of {self.depth} bits")
        if body[10] or body[11] or body[12] > 1:
            raise ValueError(
                f"its header names compression {body[10]}, filter {body[11]}, interlace {body[12]}"
            )

    def take(self, kind: bytes, body: bytes) -> None:
        """Take a chunk that is used and not there yet. Raises ValueError for a header that is none."""
        if kind in _USED and kind not in self.chunks:
            self.chunks[kind] = body
            if kind == b"IHDR":
                self.begin(body)

    def profile(self) -> bytes | None:
        """The ICC profile, unpacked; a damaged one is noted and left out."""
        body = self.chunks.get(b"iCCP")
        if body is None:
            return None
        packed = body.partition(b"\0")[2][1:]  # behind the name and the kind of compression
        try:
            unpacker = zlib.decompressobj()
            profile = unpacker.decompress(packed, _MOST_PROFILE)
        except zlib.error:
            profile = b""
        if not profile or not unpacker.eof:
            self.notes.append("its colour profile is damaged and was left out")
            return None
        return profile

    def transparent(self) -> tuple[int, ...] | None:
        """The samples, as stored, of the one gray value or colour that is declared transparent."""
        body, count = self.chunks.get(b"tRNS", b""), {0: 1, 2: 3}.get(self.colour, 0)
        if not count or len(body) < 2 * count:
            return None
        return tuple(value & (2**self.depth - 1) for value in struct.unpack(f">{count}H", body[: 2 * count]))

    @property
    def layout(self) -> tuple[int, int, int, bool]:
        """Width, height, bits of a pixel, and whether the rows are interlaced."""
        return self.width, self.height, _CHANNELS[self.colour] * self.depth, self.interlaced

    def is_whole(self) -> bool:
        """Whether the compressed pixels are complete and meet the checksum at their end."""
        return is_complete(self.idat, unpacked_size(*self.layout))

    def proved(self) -> bytes | None:
        """A file of the header and the pixels alone, uncompressed, at which no decoder can take offence.

        None where the compressed pixels are broken.
        """
        rows = unpacked(self.idat, *self.layout)
        if rows is None:
            return None
        stored = memoryview(zlib.compress(rows, 0))
        pieces = [_chunk(b"IDAT", stored[at : at + _PIECE]) for at in range(0, len(stored), _PIECE)]
        return b"".join([SIGNATURE, _chunk(b"IHDR", self.chunks[b"IHDR"]), *pieces, _chunk(b"IEND", b"")])

    def bare(self) -> bytes:
        """The file with what decoding needs and small harmless chunks alone: no metadata can hinder it."""
        if self.source is not None:
            return self.source
        wanted = [b"IHDR", b"PLTE"] + [b"tRNS"] * (self.colour == 3)  # of other types, see ``transparent``
        kept = [kind for kind in wanted if kind in self.chunks]
        parts = [SIGNATURE, *(_chunk(kind, self.chunks[kind]) for kind in kept)]
        return b"".join([*parts, _chunk(b"IDAT", b"".join(self.idat)), _chunk(b"IEND", b"")])


def is_png(data: Buffer) -> bool:
    return data[:8] == SIGNATURE


def read_png(data: bytes) -> PngContent:
    """Take a PNG file apart, and make sure that its pixels are whole.

    Damaged or unknown chunks that hold no pixels are noted and left out. A wrong checksum or a missing end is
    only noted where the compressed pixels prove to be whole by their own checksum. Raises ValueError with
    the reason otherwise.
    """
    content, view = PngContent(source=data), memoryview(data)
    position, doubt, kind = len(SIGNATURE), "", b""
    while kind != b"IEND":
        kind, end = _chunk_at(data, position)
        if end > len(data):
            reason = f"the file ends after {len(data)} bytes, within a {_name(kind)} chunk (truncated)"
            if not kind:
                reason = f"the file ends after {len(data)} bytes, before its last chunk (truncated)"
            following = _next_chunk(data, position)
            if following is None:
                doubt = doubt or reason
                if kind == b"IDAT":
                    content.idat.append(view[position + 8 :])
                break
            content.notes.append(f"bytes {position} to {following} are damaged and were left out")
            position = following
            continue
        sound = _is_sound(data, position, end)
        wrong = f"the checksum of a {_name(kind)} chunk at byte {position} is wrong"
        if not sound and kind not in _CRITICAL:
            content.notes.append(f"{wrong}; it was left out")
            at_chunk = _is_kind(_chunk_at(data, end)[0])
            position = end if at_chunk else _next_chunk(data, position) or end
            continue
        if not sound and kind in (b"IHDR", b"PLTE"):
            raise ValueError(wrong)
        if not sound:
            doubt = doubt or wrong
        if kind == b"IDAT":
            content.idat.append(view[position + 8 : end - 4])
        else:
            content.take(kind, data[position + 8 : end - 4])
        if kind not in _HARMLESS and (kind != b"tRNS" or content.colour != 3):
            content.source = None
        position = end
    if doubt or content.notes:
        content.source = None
    if not content.width:
        raise ValueError(doubt or "it has no header")
    if (doubt or content.notes) and not content.is_whole():  # a damaged chunk may have been one of pixels
        raise ValueError(doubt or content.notes[0])
    _check_palette(content)
    if doubt:
        content.notes.append(f"{doubt}; its pixels are whole")
    return content


def read_png_header(data: Buffer) -> PngContent:
    """The header and the small chunks of a PNG file, without reading its pixels unless it is damaged.

    Raises ValueError where ``read_png`` does.
    """
    content, position, kind, in_pixels = PngContent(), len(SIGNATURE), b"", False
    while kind != b"IEND":
        kind, end = _chunk_at(data, position)
        if end > len(data) or (kind != b"IDAT" and not _is_sound(data, position, end)):
            return read_png(bytes(data))
        if kind != b"IDAT":
            content.take(kind, data[position + 8 : end - 4])
        elif not in_pixels:
            end, in_pixels = _behind_pixels(data, end), True
        position = end
    if not content.width:
        raise ValueError("it has no header")
    _check_palette(content)
    return content


def _check_palette(content: PngContent) -> None:
    """Raise ValueError where the pixels number colours that are missing: decoders invent some."""
    if content.colour == 3 and not content.chunks.get(b"PLTE"):
        raise ValueError("its palette is missing")


def _behind_pixels(data: Buffer, position: int) -> int:
    """Where to go on after the first IDAT chunk: later ones are skipped where the file's tail shows them.

    Many small ones lie all over a file, and to look at each would read all of it from the disk.
    """
    start = max(position, len(data) - _TAIL)
    found = data.rfind(b"IDAT", start)
    while found >= start + 4:
        at, kind = found - 4, b"IDAT"
        while kind != b"IEND":  # is this a chunk? then the chain from here reaches the end
            kind, end = _chunk_at(data, at)
            if end > len(data) or not _is_kind(kind):
                break
            at = end
        else:
            return found - 4
        found = data.rfind(b"IDAT", start, found)
    return position


def _chunk_at(data: Buffer, position: int) -> tuple[bytes, int]:
    """Kind and end of the chunk at a place; the end lies behind the file's where the chunk does not fit."""
    if position + 12 > len(data):
        return b"", position + 12
    length, kind = struct.unpack_from(">I4s", data, position)
    return kind, position + 12 + length


def _is_sound(data: Buffer, position: int, end: int) -> bool:
    """Whether a chunk meets its checksum."""
    checksum: int = struct.unpack_from(">I", data, end - 4)[0]
    return zlib.crc32(data[position + 4 : end - 4]) == checksum


def _is_kind(kind: bytes) -> bool:
    return len(kind) == 4 and kind.isalpha()


def _next_chunk(data: bytes, position: int) -> int | None:
    """Where the next sound chunk of pixels, colours or the end begins: the way out of a wrong length.

    None where the chunk at ``position`` holds pixels itself, or none follows.
    """
    if data[position + 4 : position + 8] in _CRITICAL:
        return None
    for match in re.compile(rb"PLTE|tRNS|IDAT|IEND").finditer(data, position + 8):
        start = match.start() - 4
        end = _chunk_at(data, start)[1]
        if end <= len(data) and _is_sound(data, start, end):
            return start
    return None


def check_end(content: PngContent, last_rows: NDArray[Any]) -> None:
    """Raise ValueError where rows are missing: the decoder of 8 bits gives zeros for them without a word.

    last_rows: the last two as decoded, since in interlaced pictures either may be missing. Only where one is
    of one colour are the pixels unpacked once more to see whether they are there.
    """
    if any((row == row[:1]).all() for row in last_rows) and not content.is_whole():
        raise ValueError("its compressed pixels end early (truncated)")


def decode_png16(content: PngContent) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None]:
    """Samples H x W (gray) or H x W x 3 RGB, and alpha H x W or None, of a file of 16 bits.

    Raises ValueError with the reason when its pixels are broken.
    """
    proved = content.proved()  # libpng within OpenCV writes to stderr about broken pixels
    array = None if proved is None else decode_unchanged(proved)
    if array is None or array.dtype != np.uint16:
        raise ValueError("its compressed pixels cannot be decoded")
    if array.ndim == 2:
        return array, None
    alpha = np.ascontiguousarray(array[..., 3]) if array.shape[2] == 4 else None
    pixels = np.ascontiguousarray(array[..., 2::-1])
    return (np.ascontiguousarray(pixels[..., 0]) if content.gray else pixels), alpha


def alpha_of_key(samples: NDArray[Any], key: tuple[int, ...], depth: int) -> NDArray[Any]:
    """Alpha H x W of samples H x W or H x W x 3 where one gray value or colour is transparent.

    samples: of 1 to 8 bits spread over 0 to 255, as decoders give them, or of 16 bits as stored. key: as
    stored, in ``depth`` bits, so it is spread alike.
    """
    top = np.iinfo(samples.dtype).max
    spread = [value * (int(top) // (2**depth - 1)) for value in key]
    hit = samples == spread[0] if samples.ndim == 2 else (samples == np.array(spread, samples.dtype)).all(-1)
    return np.where(hit, 0, top).astype(samples.dtype)


def _chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(kind))
    return b"".join([struct.pack(">I", len(body)), kind, body, struct.pack(">I", checksum)])


def _filtered(rows: NDArray[Any], above: NDArray[Any], step: int) -> bytes:
    """Rows of bytes (n x w), each under the filter of PNG (none, sub, up, Paeth) with the least total."""
    up = np.concatenate([above[None], rows[:-1]])
    left, corner = np.zeros_like(rows), np.zeros_like(rows)
    left[:, step:], corner[:, step:] = rows[:, :-step], up[:, :-step]
    a, b, c = left.astype(np.int16), up.astype(np.int16), corner.astype(np.int16)
    from_left, from_up, from_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    best_left = (from_left <= from_up) & (from_left <= from_corner)
    paeth = np.where(best_left, left, np.where(from_up <= from_corner, up, corner))
    tried = ((0, rows), (1, rows - left), (2, rows - up), (4, rows - paeth))  # uint8 wraps as PNG wants
    costs = np.stack(
        [np.abs(line.view(np.int8).astype(np.int16)).sum(1, dtype=np.int64) for _, line in tried]
    )
    choice = costs.argmin(0)
    out = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    for index, (code, line) in enumerate(tried):
        mine = choice == index
        out[mine, 0] = code
        out[mine, 1:] = line[mine]
    return out.tobytes()


def encode_png16(samples_hwc: NDArray[np.uint16], *, icc: bytes | None, exif: bytes | None) -> bytes:
    """PNG file of H x W x C samples: C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA.

    exif: a TIFF block, with or without the leading ``Exif\\0\\0``.
    """
    height, width, channels = samples_hwc.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    parts = [SIGNATURE, _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))]
    if icc:
        parts.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)))
    if exif:
        parts.append(_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    packer = zlib.compressobj(4)
    above = np.zeros(width * channels * 2, np.uint8)
    for top in range(0, height, _ROWS):
        block = samples_hwc[top : top + _ROWS].astype(">u2").reshape(-1, width * channels).view(np.uint8)
        packed = packer.compress(_filtered(block, above, 2 * channels))
        if packed:
            parts.append(_chunk(b"IDAT", packed))
        above = block[-1]
    parts.append(_chunk(b"IDAT", packer.flush()))
    parts.append(_chunk(b"IEND", b""))
    return b"".join(parts)


def _name(kind: bytes) -> str:
    """A chunk's name for messages; damaged ones may hold any bytes."""
    return kind.decode("latin-1") if kind.isalpha() else repr(kind)
