"""EXIF: the orientation, and the block that goes into the outputs of an upright image."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image as Pillow

from deflow_cli.data.images.formats.opening import DECODE_ERRORS

_ORIENTATION = 274
# of a TIFF's tags only these describe the picture rather than how the file stores it
_EXIF_TAGS = (270, 271, 272, 282, 283, 296, 305, 306, 315, 33432)
_EXIF_FOLDERS = (34665, 34853)  # camera settings, position
_EXIF_SIZES = (40962, 40963)  # pixel sizes, wrong once turned or enlarged
_STARTS = (b"II*\0", b"MM\0*")
_DAMAGED = "its EXIF data are damaged and were left out"


class Exif(NamedTuple):
    """What EXIF data say. orientation: 1 to 8.

    block: without thumbnail and storage tags, the orientation reset; None without any. note: what is wrong
    with the data, or nothing.
    """

    orientation: int = 1
    block: bytes | None = None
    note: str = ""


def exif_of_block(block: bytes | None) -> Exif:
    """Of an EXIF block, with or without ``Exif\\0\\0`` in front."""
    if not block:
        return Exif()
    exif = Pillow.Exif()
    try:
        exif.load(block)
    except DECODE_ERRORS:
        return Exif(note=_DAMAGED)
    return _clean(exif)


def exif_of_opened(opened: Pillow.Image) -> Exif:
    """Of an image that Pillow opened. Broken data must not cost the picture."""
    block = opened.info.get("exif") or b""
    if block and block.removeprefix(b"Exif\0\0")[:4] not in _STARTS:
        return Exif(note=_DAMAGED)  # Pillow would read nothing from it
    try:
        exif = opened.getexif()
    except DECODE_ERRORS:
        return Exif(note=_DAMAGED)
    return _clean(exif)


def _clean(exif: Pillow.Exif) -> Exif:
    orientation = 1
    try:
        found = int(exif.get(_ORIENTATION, 1) or 1)
        orientation = found if 1 <= found <= 8 else 1
        remaining = Pillow.Exif()
        for tag in _EXIF_TAGS:
            if tag in exif:
                remaining[tag] = exif[tag]
        for tag in _EXIF_FOLDERS:
            values = {k: v for k, v in exif.get_ifd(tag).items() if k not in _EXIF_SIZES}
            if values:
                remaining[tag] = values
        if not len(remaining):
            return Exif(orientation)
        remaining[_ORIENTATION] = 1
        return Exif(orientation, remaining.tobytes())
    except DECODE_ERRORS:
        return Exif(orientation, note=_DAMAGED)
