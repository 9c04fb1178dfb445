"""Decoding: the pixels of an image file of any format that is read, with all that the file carries."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from deflow_cli.data.images.formats.header import (
    ImageHeader,
    Note,
    header_of_opened,
    header_of_pictures,
    header_of_png,
    header_of_tiff,
    main_picture,
)
from deflow_cli.data.images.formats.opening import open_header
from deflow_cli.data.images.formats.png import alpha_of_key, check_end, decode_png16, is_png, read_png
from deflow_cli.data.images.formats.profiles import LEAST_PROFILE
from deflow_cli.data.images.formats.tiff import TiffFile, TiffPage, decode_tiff16, is_tiff
from deflow_cli.data.images.formats.webp import without_cut_metadata


@dataclass(frozen=True)
class Decoded:
    """What a file holds, upright. pixels: H x W x 3, uint8 or uint16. alpha: H x W alike, or None.

    gray: the file has one colour channel, which the pixels repeat. icc, exif: blocks to carry on.
    """

    pixels: NDArray[Any]
    alpha: NDArray[Any] | None
    gray: bool
    icc: bytes | None
    exif: bytes | None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class _Stored:
    """Pixels as stored, not yet turned. samples: H x W of gray images, else H x W x 3."""

    samples: NDArray[Any]
    alpha: NDArray[Any] | None
    header: ImageHeader
    icc: bytes | None
    notes: tuple[str, ...] = ()


def decode(data: bytes) -> Decoded:
    """Decode a file's bytes; metadata that are damaged are left out with a note.

    Raises one of DECODE_ERRORS where the pixels are broken or of a kind that is not read.
    """
    decoder = _decode_png if is_png(data) else _decode_tiff if is_tiff(data) else _decode_other
    stored = decoder(data)
    samples, alpha, header = stored.samples, stored.alpha, stored.header
    gray = samples.ndim == 2
    if gray:
        samples = np.repeat(samples[..., None], 3, -1)
    if header.orientation != 1:
        samples = _orient(samples, header.orientation)
        alpha = None if alpha is None else _orient(alpha, header.orientation)
    icc, notes = stored.icc, [*header.notes, *map(Note, stored.notes)]
    if icc is not None and len(icc) < LEAST_PROFILE:
        icc = None
        notes.append(Note("its colour profile is damaged and was left out"))
    return Decoded(np.ascontiguousarray(samples), alpha, gray, icc, header.exif, tuple(notes))


def _decode_png(data: bytes) -> _Stored:
    content = read_png(data)
    header, icc = header_of_png(content), content.profile()
    samples: NDArray[Any]
    alpha: NDArray[Any] | None
    if content.depth == 16:
        samples, alpha = decode_png16(content)
    else:
        with open_header(io.BytesIO(content.bare())) as opened:
            opened.load()
            samples, alpha = _samples_of(opened)
            check_end(content, samples[-2:])
    key = content.transparent()
    if key is not None:
        alpha = alpha_of_key(samples, key, content.depth)
    return _Stored(samples, alpha, header, icc, tuple(content.notes))


def _decode_tiff(data: bytes) -> _Stored:
    tiff = TiffFile(data)
    tiff.check()
    page, alone = tiff.main, tiff.alone()
    if page.bits != 16:
        with open_header(io.BytesIO(alone)) as opened:
            header = header_of_tiff(tiff, opened)
            opened.load()
            samples, alpha = _samples_of(opened)
            _check_directory(samples, page)
            return _Stored(samples, alpha, header, _profile_of(opened))
    try:
        with open_header(io.BytesIO(alone)) as opened:
            header, icc = header_of_tiff(tiff, opened), _profile_of(opened)
    except Pillow.UnidentifiedImageError:  # Pillow is needed for the metadata alone
        header, icc = header_of_tiff(tiff, None), None
    deep, deep_alpha = decode_tiff16(alone, page)
    _check_directory(deep, page)
    return _Stored(deep, deep_alpha, header, icc)


def _check_directory(samples: NDArray[Any], page: TiffPage) -> None:
    """Raise ValueError where a decoder read other sizes from a damaged directory than we did."""
    height, width = samples.shape[:2]
    if (height, width) != (page.height, page.width):
        raise ValueError(
            f"its directory is damaged: it says {page.width}x{page.height}, its pixels are {width}x{height}"
        )


def _decode_other(data: bytes) -> _Stored:
    data, cut = without_cut_metadata(data)
    part, note = main_picture(data)
    with open_header(io.BytesIO(part)) as opened:
        header = header_of_pictures(data) if note else header_of_opened(opened, cut)
        opened.load()
        samples, alpha = _samples_of(opened)
        return _Stored(samples, alpha, header, _profile_of(opened))


def _profile_of(opened: Pillow.Image) -> bytes | None:
    """The colour profile; none for CMYK, which is converted by it."""
    icc = opened.info.get("icc_profile")
    return icc if isinstance(icc, bytes) and icc and opened.mode != "CMYK" else None


def _samples_of(opened: Pillow.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Samples H x W (gray) or H x W x 3, and alpha H x W or None, of a loaded image of at most 8 bits."""
    mode = opened.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        raise ValueError(f"it holds samples of mode {mode}; only unsigned 8 and 16 bit are read")
    gray = mode in ("1", "L", "LA", "La")
    if mode == "CMYK":
        return np.array(_cmyk_to_rgb(opened)), None
    if mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in opened.info:
        array = np.array(opened.convert("RGBA"))
        alpha = np.ascontiguousarray(array[..., 3])
        return np.ascontiguousarray(array[..., 0] if gray else array[..., :3]), alpha
    return np.array(opened.convert("L" if gray else "RGB")), None


def _cmyk_to_rgb(opened: Pillow.Image) -> Pillow.Image:
    """CMYK to RGB by its colour profile, or by Pillow's plain rule without one."""
    profile = opened.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            turned = ImageCms.profileToProfile(
                opened, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if turned is not None:
                return turned
        except (ImageCms.PyCMSError, OSError):
            pass  # an unusable profile: the plain rule is all there is
    return opened.convert("RGB")


def _orient(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn stored rows and columns upright by the EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)
