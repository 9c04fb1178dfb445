"""Records of kernels: their names, their figures and words, their pictures."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from deflow_cli.arrays import Array, Pixels
from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.data.blur.pools import KernelRecord
from deflow_cli.data.blur.shapes import BlurWidth, blur_width, contrast_kept, kernel_covariance
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.errors import DataError
from deflow_cli.reports.contact_sheet import contact_sheet
from deflow_cli.texts import readable

SHEET_STEM = "contact-sheet"
_SHOWN = 24  # kernels on the sheet
_ENLARGED = 8  # px of a weight in pictures of kernels
_CUT = 160  # px, side of the cut-out of a picture on the sheet
_ROUND = 1.15  # wide over narrow, up to which a blur has no direction


def file_names(images: Sequence[str]) -> dict[str, str]:
    """The kernel file of each image: .npy instead of its suffix, or after it where two names would be one."""
    short = {image: str(PurePosixPath(image).with_suffix(".npy")) for image in images}
    counts = Counter(short.values())
    clear = {name for name, count in counts.items() if count == 1 and name != f"{SHEET_STEM}.npy"}
    return {image: name if name in clear else f"{image}.npy" for image, name in short.items()}


def describe_kernel(
    image: str, sha256: str, file: str, kernel: Array, scale: int, seconds: float, found: Mapping[str, float]
) -> KernelRecord:
    """The record of a kernel."""
    covariance = kernel_covariance(kernel)
    width = blur_width(covariance)
    contrast = _contrasts(kernel, width, scale)
    return KernelRecord(
        image=image,
        image_sha256=sha256,
        file=file,
        covariance=np.round(covariance, 4).tolist(),
        narrow=round(width.narrow, 3),
        wide=round(width.wide, 3),
        angle=round(width.angle, 1),
        contrast=[round(value, 4) for value in contrast],
        sharpness=_sharpness(width, contrast),
        seconds=round(seconds, 3),
        found=dict(found),
    )


def _contrasts(kernel: Array, width: BlurWidth, scale: int) -> tuple[float, float]:
    """What is left of half a cycle per small pixel along the narrow and the wide axis."""
    cycles, angle = 0.5 / scale, math.radians(width.angle)
    wide = contrast_kept(kernel, cycles * math.sin(angle), cycles * math.cos(angle))
    return contrast_kept(kernel, cycles * math.cos(angle), -cycles * math.sin(angle)), wide


def _sharpness(width: BlurWidth, contrast: tuple[float, float]) -> str:
    size = f"blur of {width.narrow:.2f} x {width.wide:.2f} px"
    if width.narrow > 0 and width.wide < _ROUND * width.narrow:
        return f"{size}, round; keeps {np.mean(contrast):.0%} of the finest detail"
    kept = f"{contrast[0]:.0%} x {contrast[1]:.0%}"
    return f"{size}, wide along {width.angle:.0f} degrees; keeps {kept} of the finest detail"


def kernel_picture(kernel: Array) -> Pixels:
    """Weights as grey squares, the greatest white, negative ones black."""
    shade = np.clip(kernel / max(float(kernel.max()), 1e-12), 0, 1)
    whole: Pixels = np.rint(255 * shade).astype(np.uint8)
    return whole.repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)


def kernel_png(kernel: Array) -> bytes:
    """``kernel_picture`` as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(kernel_picture(kernel)).save(buffer, "PNG")
    return buffer.getvalue()


def write_sheet(path: Path, target: Path, source: Path, records: Sequence[KernelRecord]) -> None:
    """A sheet of at most 24 images, spread evenly, each by its middle, with their kernels."""
    shown = [
        records[index] for index in np.unique(np.linspace(0, len(records) - 1, _SHOWN).round().astype(int))
    ]
    rows, labels = [], []
    for record in shown:
        try:
            middle = _middle(read_rgb8(source / record.image))
        except DataError:
            continue
        rows.append([middle, kernel_picture(np.load(target / record.file, allow_pickle=False))])
        labels.append(f"{readable(record.image)}: {record.narrow:.2f} x {record.wide:.2f} px")
    if rows:
        buffer = io.BytesIO()
        Image.fromarray(contact_sheet(rows, ["picture", "kernel"], labels)).save(buffer, "PNG")
        write_atomically(path, buffer.getvalue())


def _middle(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    top, left = max(0, (height - _CUT) // 2), max(0, (width - _CUT) // 2)
    return pixels[top : top + _CUT, left : left + _CUT]
