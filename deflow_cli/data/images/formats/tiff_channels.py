"""TIFF channels: pages of 16 bits with any number of channels, which no decoder at hand takes.

The samples are decoded as bytes: a directory is added that describes the same data as a gray image of 8 bits,
as wide as a row of samples has bytes. Every compression that Pillow knows is so undone; the horizontal
predictor, which works on samples, is undone here (TIFF 6.0, section 14).
"""

from __future__ import annotations

import io
import struct

import numpy as np
from numpy.typing import NDArray

from deflow_cli.data.images.formats.opening import open_header

_WIDTH, _TILE_WIDTH, _PREDICTOR = 256, 322, 317
_KEPT = (257, 259, 266, 273, 278, 279, 323, 324, 325)  # height, compression, and where strips or tiles are
_SHORT, _LONG = 3, 4


def decode_channels(data: bytes, offset: int, channels: int) -> NDArray[np.uint16]:
    """Samples H x W x channels, as stored, of the page whose directory is at ``offset``.

    Raises one of DECODE_ERRORS where they are damaged.
    """
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    entries = _entries(data, offset, order, big)
    widths = {tag: _number(entries[tag], order, big) for tag in (_WIDTH, _TILE_WIDTH) if tag in entries}
    kept = {tag: entries[tag] for tag in _KEPT if tag in entries}
    for tag, width in widths.items():
        kept[tag] = _entry(tag, _LONG, width * 2 * channels, order, big)
    for tag, value in ((258, 8), (262, 1), (277, 1), (284, 1)):  # one gray sample of 8 bits
        kept[tag] = _entry(tag, _SHORT, value, order, big)
    with open_header(io.BytesIO(_with_directory(data, kept, order, big))) as opened:
        opened.load()
        rows = np.array(opened)
    samples = rows.view(np.dtype(f"{order}u2")).reshape(rows.shape[0], -1, channels).astype(np.uint16)
    if _PREDICTOR in entries and _number(entries[_PREDICTOR], order, big) == 2:
        step = widths.get(_TILE_WIDTH, samples.shape[1])
        for left in range(0, samples.shape[1], step):
            samples[:, left : left + step] = samples[:, left : left + step].cumsum(1, dtype=np.uint16)
    return samples


def _entries(data: bytes, offset: int, order: str, big: bool) -> dict[int, bytes]:
    count = struct.unpack_from(order + ("Q" if big else "H"), data, offset)[0]
    first, size = (offset + 8, 20) if big else (offset + 2, 12)
    raw = (data[first + size * number : first + size * (number + 1)] for number in range(count))
    return {struct.unpack_from(order + "H", entry)[0]: entry for entry in raw if len(entry) == size}


def _number(entry: bytes, order: str, big: bool) -> int:
    kind = struct.unpack_from(order + "H", entry, 2)[0]
    value: int = struct.unpack_from(order + {3: "H", 16: "Q"}.get(kind, "I"), entry, 12 if big else 8)[0]
    return value


def _entry(tag: int, kind: int, value: int, order: str, big: bool) -> bytes:
    body = struct.pack(order + {_SHORT: "H", _LONG: "I"}[kind], value)
    head = struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, 1)
    return head + body.ljust(8 if big else 4, b"\0")


def _with_directory(data: bytes, entries: dict[int, bytes], order: str, big: bool) -> bytes:
    """The file with one more directory at its end, which is the first that is read."""
    whole = order + ("Q" if big else "I")
    out = bytearray(data + b"\0" * (len(data) % 2))
    struct.pack_into(whole, out, 8 if big else 4, len(out))
    out += struct.pack(order + ("Q" if big else "H"), len(entries))
    out += b"".join(entries[tag] for tag in sorted(entries)) + struct.pack(whole, 0)
    return bytes(out)
