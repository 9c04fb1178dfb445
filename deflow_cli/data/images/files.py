"""Image files: read with all they carry, written without losing it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import UnidentifiedImageError
from torch import Tensor

from deflow_cli.data.images.decoding import decode
from deflow_cli.data.images.encoding import HOLDS_ALPHA, HOLDS_DEEP, HOLDS_GRAY, encode
from deflow_cli.data.images.formats.header import ImageHeader, Note, header_of
from deflow_cli.data.images.formats.known import IMAGE_SUFFIXES, WRITTEN, format_of
from deflow_cli.data.images.formats.opening import DECODE_ERRORS
from deflow_cli.data.images.remarks import remark
from deflow_cli.errors import DataError, unwritable
from deflow_cli.paths import temporary_beside


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


def read_image(path: Path) -> Image:
    """Read an image, 8 or 16 bit, upright, colours as RGB; of several frames or pages the main one.

    Formats: PNG, JPEG, TIFF, WebP, BMP and those of ``formats.known``. CMYK is converted by its profile.
    Damaged metadata and frames left out are remarked on. Raises DataError naming the file and the reason when
    it is missing, broken, truncated, or holds samples that are not unsigned 8 or 16 bit.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not data:
        raise DataError(f"{path}: the file is empty", next_step="remove it or copy it again")
    try:
        decoded = decode(data)
    except UnidentifiedImageError as error:
        _, what_to_do = format_of(path.suffix) or ("", "remove it or convert it to PNG")
        raise DataError(
            f"{path}: not an image in a known format; expected PNG, JPEG, TIFF, WebP or BMP",
            next_step=what_to_do,
        ) from error
    except MemoryError as error:
        raise DataError(f"{path}: too large for this machine's memory") from error
    except DECODE_ERRORS as error:
        raise DataError(
            f"{path}: cannot be decoded: {error}", next_step="remove it, copy it again or convert it to PNG"
        ) from error
    _tell(path, decoded.notes)
    return Image(decoded.pixels, decoded.alpha, decoded.gray, decoded.icc, decoded.exif)


def read_header(path: Path) -> ImageHeader:
    """Upright size and transparency of an image as ``read_image`` gives it, without decoding its pixels.

    Raises DataError naming the file if it is no image that we read.
    """
    try:
        header = header_of(path)
    except UnidentifiedImageError as error:
        read_image(path)  # raises with the reason
        raise DataError(f"{path}: cannot be read: {error}") from error
    except DECODE_ERRORS as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    _tell(path, header.notes)
    return header


def _tell(path: Path, notes: tuple[Note, ...]) -> None:
    for note in notes:
        remark(note.text, path, note.kind)


def to_8_bit(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels of 8 or 16 bits, rounded to 8."""
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def read_rgb8(path: Path) -> NDArray[np.uint8]:
    """H x W x 3 uint8 RGB, upright; 16 bit rounded to 8, alpha dropped. Errors as ``read_image``."""
    return to_8_bit(read_image(path).pixels)


def _gray_channel(pixels: NDArray[Any]) -> NDArray[Any]:
    """BT.601 luma in whole numbers; equal channels come back exactly."""
    weighted = pixels.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    return ((weighted + 32768) >> 16).astype(pixels.dtype)


def write_image(path: Path, image: Image, quality: int = 95) -> None:
    """Write by the suffix of ``path``: a temporary file in the same folder, renamed when complete.

    Kept where the format can: 16 bit (PNG, TIFF), alpha (PNG, TIFF, WebP), one gray channel (all but
    WebP), ICC profile and EXIF (all but BMP). WebP is lossless. quality: of JPEG, 1 to 100. What the format
    loses is remarked on. Raises DataError if the suffix is unknown or the file cannot be written.
    """
    path = Path(path)
    kind = WRITTEN.get(path.suffix.lower())
    if kind is None:
        raise DataError(
            f"{path}: {path.suffix or 'no suffix'} is not an image format that can be written",
            next_step=f"use one of {', '.join(sorted(IMAGE_SUFFIXES))}",
        )
    try:
        data, losses = _encode(image, kind, quality)
    except DECODE_ERRORS as error:
        raise DataError(f"{path}: cannot be written as {kind}: {error}", next_step="use --ext png") from error
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    for loss in losses:
        remark(loss, path)
    if kind == "JPEG":
        remark("JPEG is lossy and changes the pixels that were computed; --ext png keeps them")


def _encode(image: Image, kind: str, quality: int) -> tuple[bytes, list[str]]:
    """The file's bytes, and what the format cannot hold of the image."""
    pixels, alpha, losses = image.pixels, image.alpha, []
    if alpha is not None and kind not in HOLDS_ALPHA:
        alpha = None
        losses.append(f"{kind} holds no transparency, which is lost; --ext png keeps it")
    if image.bits == 16 and kind not in HOLDS_DEEP:
        pixels = to_8_bit(pixels)
        alpha = None if alpha is None else to_8_bit(alpha)
        losses.append(f"{kind} holds 8 bits, so 16 were rounded; --ext png keeps them")
    deep = pixels.dtype == np.uint16
    gray = image.gray and kind in HOLDS_GRAY and not (deep and kind == "TIFF" and alpha is not None)
    colours = _gray_channel(pixels)[..., None] if gray else pixels
    samples = colours if alpha is None else np.concatenate([colours, alpha[..., None]], -1)
    data, left_out = encode(np.ascontiguousarray(samples), kind, quality, image.icc, image.exif)
    return data, [*losses, *left_out]


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
