"""PNG: whether the compressed pixels of a file are all there."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

# First row and column, and the steps between, of the pictures that an interlaced one is stored as.
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def unpacked_size(width: int, height: int, bits: int, interlaced: bool) -> int:
    """Bytes of all rows, each with that of its filter; of seven reduced pictures where they are interlaced.

    bits: of a pixel.

    >>> unpacked_size(10, 4, 24, interlaced=False)
    124
    """
    size = 0
    for top, left, down, across in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        rows, columns = -((top - height) // down), -((left - width) // across)
        if rows > 0 and columns > 0:
            size += rows * (1 + (columns * bits + 7) // 8)
    return size


def is_complete(parts: Iterable[memoryview], least: int) -> bool:
    """Whether compressed pixels unpack to ``least`` bytes or more, and meet the checksum at their end."""
    unpacker = zlib.decompressobj()
    size = 0
    try:
        for part in parts:
            piece = bytes(part)
            while piece:
                size += len(unpacker.decompress(piece, 1 << 24))
                piece = unpacker.unconsumed_tail
    except zlib.error:
        return False
    return unpacker.eof and size >= least
