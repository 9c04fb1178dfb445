"""WebP: a file that was cut within the metadata behind its picture, which is whole.

The container is RIFF's: chunks of a name, a length and an even number of bytes. EXIF data and XMP come behind
the picture, and libwebp refuses a file that lacks some of them.
"""

from __future__ import annotations

import struct

CUT_METADATA = "its metadata are cut off and were left out"
_EXTENDED = b"VP8X"
_PICTURES = (b"VP8 ", b"VP8L")
_BEHIND = {b"EXIF": 0x08, b"XMP ": 0x04}  # with their flags in the first byte of VP8X
_ANIMATED = 0x02
_FLAGS = 20  # the place of that byte


def is_webp(head: bytes) -> bool:
    """Whether a file's first twelve bytes are those of a WebP."""
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def without_cut_metadata(data: bytes) -> tuple[bytes, str]:
    """The file without metadata that are cut off, and a note on that; other files as they are, and none."""
    if not is_webp(data) or len(data) >= 8 + struct.unpack_from("<I", data, 4)[0]:
        return data, ""
    names, end = [], 12
    while end + 8 <= len(data):
        length = struct.unpack_from("<I", data, end + 4)[0]
        if end + 8 + length > len(data):
            break
        names.append(data[end : end + 4])
        end += 8 + length + length % 2
    is_extended = names[:1] == [_EXTENDED] and not data[_FLAGS] & _ANIMATED
    rest = data[end : end + 4]
    if not is_extended or not any(name in _PICTURES for name in names):
        return data, ""
    if not any(name.startswith(rest) for name in _BEHIND):
        return data, ""
    kept = bytearray(data[:end].ljust(end, b"\0"))
    struct.pack_into("<I", kept, 4, end - 8)
    for name, flag in _BEHIND.items():
        if name not in names:
            kept[_FLAGS] &= ~flag & 0xFF
    return bytes(kept), CUT_METADATA
