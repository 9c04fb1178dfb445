"""PNG with 16 bits per channel: checking, decoding and encoding, with colour profile and EXIF."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deflow_cli.data.images.formats.opencv import decode_unchanged

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ROWS = 64  # rows filtered and compressed at a time


def walk_chunks(data: bytes, *, check: bool = True) -> Iterator[tuple[bytes, memoryview]]:
    """Chunks (type, body) of a PNG file. Raises ValueError where it is cut off or a checksum is wrong."""
    view, position = memoryview(data), len(SIGNATURE)
    while True:
        if position + 12 > len(view):
            raise ValueError(f"the file ends after {len(view)} bytes, before its last chunk (truncated)")
        (length,) = struct.unpack_from(">I", view, position)
        kind = bytes(view[position + 4 : position + 8])
        end = position + 12 + length
        if end > len(view):
            raise ValueError(f"the file ends after {len(view)} bytes, within a {kind!r} chunk (truncated)")
        if check and zlib.crc32(view[position + 4 : end - 4]) != struct.unpack_from(">I", view, end - 4)[0]:
            raise ValueError(f"the checksum of a {kind!r} chunk at byte {position} is wrong")
        yield kind, view[position + 8 : end - 4]
        if kind == b"IEND":
            return
        position = end


def is_png16(data: bytes) -> bool:
    """Whether the bytes start a PNG file of 16 bits per channel."""
    return data[:8] == SIGNATURE and data[12:16] == b"IHDR" and len(data) > 24 and data[24] == 16


def decode_png16(data: bytes) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None, bool, bytes | None]:
    """Pixels H x W x 3 RGB, alpha H x W or None, whether it is gray, the EXIF block or None.

    Raises ValueError with the reason when the file is broken.
    """
    chunks: dict[bytes, bytes] = {}
    for kind, body in walk_chunks(data):
        if kind in (b"IHDR", b"eXIf", b"tRNS"):
            chunks[kind] = bytes(body)
    gray = chunks[b"IHDR"][9] in (0, 4)
    array = decode_unchanged(data)
    if array is None or array.dtype != np.uint16:
        raise ValueError("its compressed pixels cannot be decoded")
    exif = chunks.get(b"eXIf")
    if array.ndim == 2:
        key = chunks.get(b"tRNS")
        alpha = None
        if key is not None and len(key) >= 2:  # one gray value is declared transparent
            transparent = struct.unpack(">H", key[:2])[0]
            alpha = np.where(array == transparent, 0, 65535).astype(np.uint16)
        return np.repeat(array[..., None], 3, -1), alpha, gray, exif
    alpha = np.ascontiguousarray(array[..., 3]) if array.shape[2] == 4 else None
    return np.ascontiguousarray(array[..., 2::-1]), alpha, gray, exif


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


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
