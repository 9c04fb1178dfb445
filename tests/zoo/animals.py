"""Animals: an input by code, with what must come of it, and the independent decoders that say so too."""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

try:
    import tifffile
except ImportError:  # it comes with scikit-image
    tifffile = None

HEIGHT, WIDTH = 33, 41  # of most pictures: odd, and no multiple of a tile or a latent cell


@dataclass(frozen=True)
class Right:
    """The file is read, and these are its pixels. pixels: H x W x 3, uint8 or uint16, upright.

    said: a pattern of what must be remarked on; empty: nothing may be.
    """

    pixels: NDArray[Any]
    alpha: NDArray[Any] | None = None
    said: str = ""


@dataclass(frozen=True)
class Refused:
    """The file is refused by an error that names it and gives a reason of this pattern."""

    reason: str


@dataclass(frozen=True)
class RightOrRefused:
    """Damage that may or may not cost the pixels: they are these, or the file is refused by name."""

    pixels: NDArray[Any]
    alpha: NDArray[Any] | None = None


Expected = Right | Refused | RightOrRefused


@dataclass(frozen=True)
class Animal:
    """A file. group: of the table. name: unique in its group. file: its name where that matters."""

    group: str
    name: str
    data: bytes
    expected: Expected
    suffix: str = ".png"
    file: str = ""

    @property
    def path(self) -> str:
        """Its path below the folder of all: a sub-folder for each group."""
        slug = f"{re.sub(r'[^A-Za-z0-9]+', '_', self.name)}_{zlib.crc32(self.name.encode()):08x}"
        return f"{re.sub('[^a-z0-9]+', '_', self.group.lower())}/{self.file or slug + self.suffix}"

    @property
    def label(self) -> str:
        return f"{self.group}: {self.name}"


def picture(
    channels: int, kind: str = "uint8", height: int = HEIGHT, width: int = WIDTH, seed: int = 0
) -> NDArray[Any]:
    """H x W x C samples: a smooth gradient with noise, so that no two rows, channels or turns look alike."""
    rng = np.random.default_rng([seed, channels, height, width])
    top = np.iinfo(kind).max
    rows, columns = np.mgrid[:height, :width]
    smooth = (0.2 + 0.5 * rows / max(1, height) + 0.2 * columns / max(1, width))[..., None]
    values = smooth + 0.05 * np.arange(channels) + rng.normal(0, 0.03, (height, width, channels))
    return np.rint(values.clip(0, 1) * top).astype(kind)


def rgb(samples: NDArray[Any]) -> NDArray[Any]:
    """H x W or H x W x 1 repeated to three channels; three stay as they are."""
    samples = samples[..., None] if samples.ndim == 2 else samples
    return np.repeat(samples, 3, -1) if samples.shape[2] == 1 else samples


def right(samples: NDArray[Any], said: str = "") -> Right:
    """What C = 1 (gray), 2 (gray and alpha), 3 or 4 channels are as a picture."""
    alpha = samples[..., -1] if samples.shape[2] in (2, 4) else None
    colours = samples[..., :-1] if alpha is not None else samples
    return Right(rgb(colours), alpha, said)


# -- independent decoders ---------------------------------------------------------------------------------

Decoded = tuple[NDArray[Any], NDArray[Any] | None]


def by_pillow(data: bytes) -> Decoded:
    """Pixels and alpha, upright, of 8 bits; 16-bit gray as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Pillow.open(io.BytesIO(data)) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16"):
                return rgb(np.array(image)), None
            if image.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in opened.info:
                array = np.array(image.convert("RGBA"))
                return array[..., :3], array[..., 3]
            return np.array(image.convert("RGB")), None


def by_opencv(data: bytes) -> Decoded:
    """Pixels and alpha as stored, of 8 or 16 bits."""
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise ValueError("OpenCV does not read it")
    if array.ndim == 2:
        return rgb(array), None
    alpha = array[..., 3] if array.shape[2] == 4 else None
    return array[..., 2::-1], alpha


def by_tifffile(data: bytes) -> Decoded:
    """Pixels and alpha as stored in the first page."""
    array = tifffile.imread(io.BytesIO(data), key=0)
    array = array[..., None] if array.ndim == 2 else array
    found = right(array)
    return found.pixels, found.alpha


DECODERS: dict[str, Callable[[bytes], Decoded]] = {"Pillow": by_pillow, "OpenCV": by_opencv}
if tifffile is not None:
    DECODERS["tifffile"] = by_tifffile


def agreeing(data: bytes, expected: Right) -> list[str]:
    """The decoders that give the very pixels expected; others refuse the file or read it otherwise."""
    names = []
    for name, decode in DECODERS.items():
        try:
            pixels, alpha = decode(data)
        except Exception:  # whatever another program makes of a damaged file
            continue
        same_alpha = (alpha is None) == (expected.alpha is None) and (
            alpha is None or np.array_equal(alpha, expected.alpha)
        )
        if pixels.dtype == expected.pixels.dtype and np.array_equal(pixels, expected.pixels) and same_alpha:
            names.append(name)
    return names
