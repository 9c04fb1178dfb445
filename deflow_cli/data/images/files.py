"""Image files: read with all they carry, written without losing it."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms
from torch import Tensor

from deflow_cli.data.images.formats.known import IMAGE_SUFFIXES, WRITTEN, read_suffixes
from deflow_cli.data.images.formats.png import decode_png16, encode_png16, is_png16
from deflow_cli.data.images.formats.tiff import decode_tiff16, encode_tiff, read_header
from deflow_cli.errors import DataError

MAX_PIXELS = 1 << 30
_HOLDS_ALPHA = frozenset({"PNG", "TIFF", "WEBP"})
_HOLDS_GRAY = frozenset({"PNG", "TIFF", "JPEG", "BMP"})
_HOLDS_DEEP = frozenset({"PNG", "TIFF"})
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
    Pillow.DecompressionBombError,
)
# of a TIFF's tags only these describe the picture rather than how the file stores it
_EXIF_TAGS = (270, 271, 272, 282, 283, 296, 305, 306, 315, 33432)
_EXIF_FOLDERS = (34665, 34853)  # camera settings, position
_EXIF_SIZES = (40962, 40963)  # pixel sizes, wrong once turned or enlarged
_pillow_limit = threading.Lock()


@dataclass(frozen=True)
class Image:
    """A decoded image, upright.

    pixels: H x W x 3 RGB, uint8 or uint16. alpha: H x W of the same dtype, or None. gray: the file had
    one colour channel (pixels repeat it). icc, exif: blocks as the file had them, the orientation reset.
    """

    pixels: NDArray[Any]
    alpha: NDArray[Any] | None = None
    gray: bool = False
    icc: bytes | None = None
    exif: bytes | None = None

    @property
    def bits(self) -> int:
        return 16 if self.pixels.dtype == np.uint16 else 8


@contextmanager
def open_header(source: Path | io.BytesIO) -> Iterator[Pillow.Image]:
    """Open an image lazily with Pillow, without its limit on the size of photographs.

    Pillow's limit is a global; it is lifted under a lock and only while the header is read.
    """
    read_suffixes()  # makes plug-ins of Pillow ready
    with _pillow_limit:
        limit, Pillow.MAX_IMAGE_PIXELS = Pillow.MAX_IMAGE_PIXELS, None
        try:
            opened = Pillow.open(source)
        finally:
            Pillow.MAX_IMAGE_PIXELS = limit
    with opened as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width}x{image.height} is more than {MAX_PIXELS} pixels")
        yield image


def _orient(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn stored rows and columns upright by the EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


def _clean_exif(exif: Pillow.Exif) -> tuple[int, bytes | None]:
    """Orientation, and the block to carry on: upright, without thumbnail and storage tags."""
    try:
        orientation = int(exif.get(274, 1) or 1)
        remaining = Pillow.Exif()
        for tag in _EXIF_TAGS:
            if tag in exif:
                remaining[tag] = exif[tag]
        for tag in _EXIF_FOLDERS:
            values = {k: v for k, v in exif.get_ifd(tag).items() if k not in _EXIF_SIZES}
            if values:
                remaining[tag] = values
        if not len(remaining):
            return orientation, None
        remaining[274] = 1
        return orientation, remaining.tobytes()
    except DECODE_ERRORS:  # broken EXIF must not cost the picture
        return 1, None


def _exif_of(opened: Pillow.Image, block: bytes | None = None) -> tuple[int, bytes | None]:
    exif = Pillow.Exif()
    try:
        if block is not None:
            exif.load(block)
        elif opened.format != "PNG" or "exif" in opened.info:  # else Pillow would decode the pixels for it
            exif = opened.getexif()
    except DECODE_ERRORS:
        return 1, None
    return _clean_exif(exif)


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


def _decode8(opened: Pillow.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, bool]:
    mode = opened.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        raise ValueError(f"it holds samples of mode {mode}; only unsigned 8 and 16 bit are read")
    gray = mode in ("1", "L", "LA", "La")
    has_alpha = mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in opened.info
    if mode == "CMYK":
        array, has_alpha = np.array(_cmyk_to_rgb(opened)), False
    elif has_alpha:
        array = np.array(opened.convert("RGBA"))
    elif gray:
        array = np.repeat(np.array(opened.convert("L"))[..., None], 3, -1)
    else:
        array = np.array(opened.convert("RGB"))
    alpha = np.ascontiguousarray(array[..., 3]) if has_alpha else None
    return np.ascontiguousarray(array[..., :3]), alpha, gray


def _decode(data: bytes) -> Image:
    header = read_header(data)
    if header is not None and header.trouble:
        raise ValueError(header.trouble)
    with open_header(io.BytesIO(data)) as opened:
        icc = opened.info.get("icc_profile") or None
        pixels: NDArray[Any]
        alpha: NDArray[Any] | None
        if is_png16(data):
            pixels, alpha, gray, block = decode_png16(data)
            orientation, exif = _exif_of(opened, block)
        elif header is not None and header.bits == 16:
            pixels, alpha, gray = decode_tiff16(data, header)
            orientation, exif = _exif_of(opened)
        else:
            opened.load()
            orientation, exif = _exif_of(opened)
            icc = None if opened.mode == "CMYK" else icc
            pixels, alpha, gray = _decode8(opened)
    if orientation != 1:
        pixels = _orient(pixels, orientation)
        alpha = None if alpha is None else _orient(alpha, orientation)
    return Image(pixels, alpha, gray, icc, exif)


def read_image(path: Path) -> Image:
    """Read PNG, JPEG, TIFF, WebP or BMP (the first frame), 8 or 16 bit, upright, colours as RGB.

    CMYK is converted by its profile. Raises DataError naming the file and the reason when it is
    missing, broken, truncated, or holds samples that are not unsigned 8 or 16 bit.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not data:
        raise DataError(f"{path}: the file is empty", next_step="remove it or copy it again")
    try:
        return _decode(data)
    except Pillow.UnidentifiedImageError as error:
        raise DataError(
            f"{path}: not an image in a known format; expected PNG, JPEG, TIFF, WebP or BMP",
            next_step="remove it or convert it to PNG",
        ) from error
    except MemoryError as error:
        raise DataError(f"{path}: too large for this machine's memory") from error
    except DECODE_ERRORS as error:
        raise DataError(
            f"{path}: cannot be decoded: {error}", next_step="remove it, copy it again or convert it to PNG"
        ) from error


def _to_8_bit(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def read_rgb8(path: Path) -> NDArray[np.uint8]:
    """H x W x 3 uint8 RGB, upright; 16 bit rounded to 8, alpha dropped. Errors as ``read_image``."""
    return _to_8_bit(read_image(path).pixels)


def _gray_channel(pixels: NDArray[Any]) -> NDArray[Any]:
    """BT.601 luma in whole numbers; equal channels come back exactly."""
    weighted = pixels.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    return ((weighted + 32768) >> 16).astype(pixels.dtype)


def _encode(image: Image, kind: str, quality: int) -> bytes:
    pixels, alpha = image.pixels, image.alpha
    if kind not in _HOLDS_ALPHA:
        alpha = None
    if kind not in _HOLDS_DEEP:
        pixels = _to_8_bit(pixels)
        alpha = None if alpha is None else _to_8_bit(alpha)
    deep = pixels.dtype == np.uint16
    gray = image.gray and kind in _HOLDS_GRAY and not (deep and kind == "TIFF" and alpha is not None)
    colours = _gray_channel(pixels)[..., None] if gray else pixels
    samples = colours if alpha is None else np.concatenate([colours, alpha[..., None]], -1)
    samples = np.ascontiguousarray(samples)
    if kind == "TIFF":  # Pillow's cannot write EXIF folders into a compressed TIFF
        return encode_tiff(samples, icc=image.icc, exif=image.exif)
    if deep:
        return encode_png16(samples, icc=image.icc, exif=image.exif)
    picture = Pillow.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    by_kind: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": quality, "subsampling": 0 if quality >= 90 else 2},
        "WEBP": {"quality": min(quality, 100), "lossless": quality >= 100, "method": 4},
        "PNG": {"compress_level": 4},
    }
    options = by_kind.get(kind, {})
    if kind != "BMP":
        if image.icc:
            options["icc_profile"] = image.icc
        if image.exif:
            options["exif"] = image.exif
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def write_image(path: Path, image: Image, quality: int = 95) -> None:
    """Write by the suffix of ``path``: a temporary file in the same folder, renamed when complete.

    Kept where the format can: 16 bit (PNG, TIFF), alpha (PNG, TIFF, WebP), one gray channel (all but
    WebP), ICC profile and EXIF (all but BMP). quality: JPEG and WebP, 1 to 100; WebP at 100 is lossless.
    Raises DataError if the suffix is unknown or the file cannot be written.
    """
    path = Path(path)
    kind = WRITTEN.get(path.suffix.lower())
    if kind is None:
        raise DataError(
            f"{path}: {path.suffix or 'no suffix'} is not an image format that can be written",
            next_step=f"use one of {', '.join(sorted(IMAGE_SUFFIXES))}",
        )
    try:
        data = _encode(image, kind, quality)
    except DECODE_ERRORS as error:
        raise DataError(f"{path}: cannot be written as {kind}: {error}", next_step="use --ext png") from error
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error


def to_tensor(pixels: NDArray[Any], device: torch.device | str = "cpu") -> Tensor:
    """H x W x 3 uint8 or uint16 to 1 x 3 x H x W float32 in [0, 1], of the same bits on every device."""
    top = 65535 if pixels.dtype == np.uint16 else 255
    device = torch.device(device)
    if device.type == "cpu":
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
        return torch.from_numpy(planes)[None] / top
    planes_chw = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1).float()
    # by a tensor: CUDA divides by a number as a product with its rounded reciprocal
    return planes_chw.contiguous()[None] / torch.full((), float(top), device=device)


def quantised(tensor: Tensor, bits: int = 8) -> Tensor:
    """The integers of ``to_pixels``, on the tensor's device: H x W x 3, uint8 or uint16."""
    planes = tensor.detach().reshape(tensor.shape[-3:]).float()
    whole = torch.floor(planes.clamp(0, 1) * (2**bits - 1) + 0.5)
    return whole.to(torch.uint16 if bits == 16 else torch.uint8).permute(1, 2, 0)


def to_pixels(tensor: Tensor, bits: int = 8) -> NDArray[Any]:
    """1 x 3 x H x W (or 3 x H x W) in [0, 1] to H x W x 3: clamped, halves rounded up, uint8 or uint16."""
    assert bits in (8, 16)
    planes = tensor.detach().reshape(tensor.shape[-3:]).float().cpu()
    whole = torch.floor(planes.clamp(0, 1) * (2**bits - 1) + 0.5).numpy().transpose(1, 2, 0)
    return np.ascontiguousarray(whole.astype(np.uint16 if bits == 16 else np.uint8))
