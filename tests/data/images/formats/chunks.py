"""PNG files made by hand, with any header, chunks and damage."""

import struct
import zlib

from deflow_cli.data.images.formats.png import SIGNATURE


def chunk(kind: bytes, body: bytes, damage: int = 0) -> bytes:
    """damage: added to the checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ damage)


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *before: bytes, after: bytes = b""
) -> bytes:
    """rows: each with its filter byte in front. before, after: chunks around the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"".join([SIGNATURE, chunk(b"IHDR", header), *before, pixels, after, chunk(b"IEND", b"")])
