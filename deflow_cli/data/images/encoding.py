"""Encoding: the bytes of an image file, and what its format cannot hold."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from deflow_cli.data.images.formats.png import LARGEST_PROFILE, encode_png16
from deflow_cli.data.images.formats.profiles import colour_space, fits
from deflow_cli.data.images.formats.tiff import encode_tiff
from deflow_cli.errors import DataError

HOLDS_ALPHA = frozenset({"PNG", "TIFF", "WEBP"})
HOLDS_GRAY = frozenset({"PNG", "TIFF", "JPEG", "BMP"})
HOLDS_DEEP = frozenset({"PNG", "TIFF"})
LARGEST_SIDES = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}  # what the formats can hold
_LARGEST_PROFILES = {"PNG": LARGEST_PROFILE, "JPEG": 255 * 65519}  # JPEG: 255 segments
_LARGEST_EXIF = {"JPEG": 65533}  # one segment


def check_sides(source: object, suffix: str, height: int, width: int) -> None:
    """Check, before the work, that the format can hold the output. Raises DataError where it cannot."""
    most = LARGEST_SIDES.get(suffix.lower(), 1 << 31)
    if max(height, width) > most:
        raise DataError(
            f"{source}: {width}x{height} pixels are more than {suffix} holds ({most} a side); use --ext png"
        )


def encode(
    samples_hwc: NDArray[Any], kind: str, quality: int, icc: bytes | None, exif: bytes | None
) -> tuple[bytes, list[str]]:
    """The bytes of a file, and what was left out, in words.

    samples_hwc: C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA. kind: by Pillow's name, of
    ``formats.known.WRITTEN``. quality: of JPEG; WebP is lossless. Raises one of DECODE_ERRORS where the
    format cannot hold the pixels.
    """
    icc, exif, left_out = _fitting(kind, samples_hwc.shape[2], icc, exif)
    if kind == "TIFF":  # Pillow's cannot write EXIF folders into a compressed TIFF
        return encode_tiff(samples_hwc, icc=icc, exif=exif), left_out
    if samples_hwc.dtype == np.uint16:
        return encode_png16(samples_hwc, icc=icc, exif=exif), left_out
    picture = Pillow.fromarray(samples_hwc[..., 0] if samples_hwc.shape[2] == 1 else samples_hwc)
    by_kind: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": quality, "subsampling": 0 if quality >= 90 else 2},
        "WEBP": {"lossless": True, "quality": 100, "method": 4},
        "PNG": {"compress_level": 4},
    }
    options = by_kind.get(kind, {})
    if kind != "BMP":
        if icc:
            options["icc_profile"] = icc
        if exif:
            options["exif"] = exif
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue(), left_out


def _fitting(
    kind: str, channels: int, icc: bytes | None, exif: bytes | None
) -> tuple[bytes | None, bytes | None, list[str]]:
    """The blocks that a file of this kind can hold with these channels, and what is left out of them."""
    left_out = []
    if icc and not fits(icc, channels):
        what = "gray" if channels < 3 else "RGB"
        left_out.append(
            f"a colour profile for {colour_space(icc)} does not fit {what} pixels and was left out"
        )
        icc = None
    if icc and len(icc) > _LARGEST_PROFILES.get(kind, len(icc)):
        left_out.append(
            f"the colour profile of {len(icc) / 1e6:.1f} MB is more than readers of {kind} take and was left"
            " out; --ext tif keeps it"
        )
        icc = None
    if exif and len(exif) > _LARGEST_EXIF.get(kind, len(exif)):
        left_out.append(f"EXIF data of {len(exif)} bytes are more than {kind} holds and were left out")
        exif = None
    return icc, exif, left_out
