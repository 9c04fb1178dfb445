"""PNG: the compressed pixels of a file, and whether they are all there."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

import numpy as np

_LAST_FILTER = 4  # none, sub, up, average, Paeth
# First row and column, and the steps between, of the pictures that an interlaced one is stored as.
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def unpacked_size(width: int, height: int, bits: int, interlaced: bool) -> int:
    """Bytes of all rows, each with that of its filter; of seven reduced pictures where they are interlaced.

    bits: of a pixel.

    >>> unpacked_size(10, 4, 24, interlaced=False)
    124
    """
    return sum(rows * length for rows, length in _reduced(width, height, bits, interlaced))


def _reduced(width: int, height: int, bits: int, interlaced: bool) -> Iterator[tuple[int, int]]:
    """Rows, and bytes of a row, of the pictures that are stored: one, or seven."""
    for top, left, down, across in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        rows, columns = -((top - height) // down), -((left - width) // across)
        if rows > 0 and columns > 0:
            yield rows, 1 + (columns * bits + 7) // 8


def unpacked(
    parts: Iterable[memoryview], width: int, height: int, bits: int, interlaced: bool
) -> bytes | None:
    """The rows of compressed pixels, each behind its filter; None where they are broken.

    Broken: not unpacked to their end and its checksum, too few, or a row with a filter that PNG has not.
    What is unpacked beyond the last row is left out.
    """
    size = unpacked_size(width, height, bits, interlaced)
    rows = bytearray()
    try:
        for piece in _unpacked_pieces(parts):
            rows += piece[: size - len(rows)]
    except zlib.error:
        return None
    if len(rows) < size:
        return None
    position = 0
    for count, length in _reduced(width, height, bits, interlaced):
        filters = np.frombuffer(rows, np.uint8, count * length, position)[::length]
        if filters.max() > _LAST_FILTER:
            return None
        position += count * length
    return bytes(rows)


def is_complete(parts: Iterable[memoryview], least: int) -> bool:
    """Whether compressed pixels unpack to ``least`` bytes or more, and meet the checksum at their end."""
    try:
        return sum(len(piece) for piece in _unpacked_pieces(parts)) >= least
    except zlib.error:
        return False


def _unpacked_pieces(parts: Iterable[memoryview]) -> Iterator[bytes]:
    """What compressed parts unpack to, at most 16 MiB at a time. Raises zlib.error unless they are whole."""
    unpacker = zlib.decompressobj()
    for part in parts:
        packed = bytes(part)
        while packed:
            yield unpacker.decompress(packed, 1 << 24)
            packed = unpacker.unconsumed_tail
    if not unpacker.eof:
        raise zlib.error("the end and its checksum are missing")
