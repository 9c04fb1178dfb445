"""Generators: procedural pictures, a right noise law, and one wrong law for each way to be wrong."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deflow_cli.arrays import Pixels
from deflow_cli.data.camera_noise import camera_noise

Field = NDArray[np.float64]
Law = Callable[[Pixels, np.random.Generator], Pixels]


def to_pixels(values: Field) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def picture(seed: int, size: int = 112) -> Pixels:
    """Smooth shading, discs and bars with hard edges, and a patch of natural-like texture; every tone."""
    rng = np.random.default_rng([7, seed])
    yy, xx = np.mgrid[:size, :size] / size
    angle = rng.uniform(0, 2 * np.pi)
    ramp = xx * np.cos(angle) + yy * np.sin(angle)
    ramp = (ramp - ramp.min()) / (ramp.max() - ramp.min())
    tint = rng.uniform(0.85, 1.1, 3)
    image = (30 + 190 * ramp)[..., None] * tint
    for _ in range(6):
        centre, radius = rng.uniform(0.1, 0.9, 2), rng.uniform(0.05, 0.2)
        inside = np.hypot(yy - centre[0], xx - centre[1]) < radius
        image[inside] = image[inside] * 0.4 + rng.uniform(20, 235, 3) * 0.6
    bar = np.abs(xx - rng.uniform(0.2, 0.8)) < 0.03
    image[bar] *= 0.5
    texture = rng.standard_normal((size, size))
    texture = cv2.GaussianBlur(texture, (0, 0), 1.0) - cv2.GaussianBlur(texture, (0, 0), 4.0)
    window = np.exp(-((xx - 0.3) ** 2 + (yy - 0.7) ** 2) / 0.03)
    image += (90 * texture * window)[..., None]
    return to_pixels(np.clip(image, 12, 243))


def scene(seed: int) -> Field:
    """A picture with black and white somewhere, of a brightness and contrast of its own, 112 px."""
    rng = np.random.default_rng([11, seed])
    pixels = picture(seed).astype(float)
    pixels = 128 + rng.uniform(0.5, 1.0) * (pixels - 128) + rng.uniform(-30, 30)
    for value in (2, 250):
        top, left = rng.integers(0, 80, 2)
        pixels[top : top + 24, left : left + 24] = value + rng.uniform(-4, 4)
    return pixels


def pictures(count: int = 8, size: int = 112) -> list[Pixels]:
    return [picture(seed, size) for seed in range(count)]


# ------------------------------------------------------------------ noise


def field(
    shape: Sequence[int], rng: np.random.Generator, blur: float = 0.6, tie: float = 0.4, tails: bool = False
) -> Field:
    """Noise of unit variance, H x W x 3: grain of Gaussian ``blur`` px, channels correlated by ``tie``.

    tails: in clumps, by a log-normal amplitude of s = 0.45; excess kurtosis 3 exp(4 s^2) - 3 = 3.7.
    """
    height, width = shape[:2]
    noise = np.sqrt(tie) * rng.standard_normal((height, width, 1))
    noise = noise + np.sqrt(1 - tie) * rng.standard_normal((height, width, 3))
    if blur > 0:
        kernel = cv2.getGaussianKernel(13, blur, cv2.CV_64F)
        kernel /= np.linalg.norm(kernel)
        noise = cv2.sepFilter2D(noise, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    if tails:
        clumps = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), 2.0)
        clumps = 0.45 * clumps / clumps.std()
        noise = noise * np.exp(clumps - 0.45**2)[..., None]
    return noise


def level(clean: Pixels) -> Field:
    """The right law's std in grey levels: 4 in black, 12 in white."""
    return (4.0 + 8.0 * (clean @ np.array([0.299, 0.587, 0.114])) / 255.0)[..., None]


def right(clean: Pixels, rng: np.random.Generator) -> Pixels:
    return to_pixels(clean + level(clean) * field(clean.shape, rng))


def jpeg(law: Law, quality: int) -> Law:
    """The law, then JPEG 4:2:0: its 8 x 8 grid is honest."""

    def apply(clean: Pixels, rng: np.random.Generator) -> Pixels:
        stream = io.BytesIO()
        Image.fromarray(law(clean, rng)).save(stream, "JPEG", quality=quality, subsampling=2)
        return np.asarray(Image.open(stream).convert("RGB"))

    return apply


def white(clean: Pixels, rng: np.random.Generator) -> Pixels:
    return to_pixels(clean + 9.0 * rng.standard_normal(clean.shape))


def coarse(clean: Pixels, rng: np.random.Generator) -> Pixels:
    return to_pixels(clean + 9.0 * field(clean.shape, rng, blur=1.8))


HONEST: dict[str, Law] = {
    "right": right,
    "white": white,
    "coarse": coarse,
    "heavy tails": lambda clean, rng: to_pixels(clean + level(clean) * field(clean.shape, rng, tails=True)),
    "camera": lambda clean, rng: camera_noise(clean, rng),
    "jpeg 75": jpeg(right, 75),
    "jpeg 40": jpeg(right, 40),
    "white, jpeg 30": jpeg(white, 30),
}
"""Laws that draw independent noise without repetition, whatever else they do."""


# ------------------------------------------------------------------ wrong laws


@dataclass(frozen=True)
class Wrong:
    """A law that is wrong in one way; ``subject`` and ``words``: the finding that says so."""

    law: Law
    subject: str
    words: str


def _scaled(factor: float) -> Law:
    return lambda clean, rng: to_pixels(clean + factor * level(clean) * field(clean.shape, rng))


def _grain(blur: float) -> Law:
    return lambda clean, rng: to_pixels(clean + level(clean) * field(clean.shape, rng, blur=blur))


def _ties(tie: float) -> Law:
    return lambda clean, rng: to_pixels(clean + level(clean) * field(clean.shape, rng, tie=tie))


def _blurred(clean: Pixels, rng: np.random.Generator) -> Pixels:
    soft = cv2.GaussianBlur(clean.astype(np.float64), (0, 0), 0.7, borderType=cv2.BORDER_REFLECT_101)
    return to_pixels(soft + level(clean) * field(clean.shape, rng))


def _cast(clean: Pixels, rng: np.random.Generator) -> Pixels:
    return to_pixels(clean + level(clean) * field(clean.shape, rng) + np.array([0.0, 0.0, 2.0]))


def _deterministic(clean: Pixels, rng: np.random.Generator) -> Pixels:
    return right(clean, np.random.default_rng(zlib.crc32(clean.tobytes())))


def _half_random(clean: Pixels, rng: np.random.Generator) -> Pixels:
    same = field(clean.shape, np.random.default_rng(zlib.crc32(clean.tobytes())))
    return to_pixels(clean + level(clean) * np.sqrt(0.5) * (same + field(clean.shape, rng)))


def _tiled(clean: Pixels, rng: np.random.Generator) -> Pixels:
    height, width = clean.shape[:2]
    tile = field((32, 32), rng)
    tiled = np.tile(tile, (-(-height // 32), -(-width // 32), 1))[:height, :width]
    return to_pixels(clean + level(clean) * tiled)


def _one_field(clean: Pixels, rng: np.random.Generator) -> Pixels:
    """One fixed field, cut at a random place for every picture."""
    large = field((192, 192), np.random.default_rng(5))
    top, left = rng.integers(0, 192 - np.array(clean.shape[:2]) + 1)
    return to_pixels(clean + level(clean) * large[top : top + clean.shape[0], left : left + clean.shape[1]])


def _pool(clean: Pixels, rng: np.random.Generator) -> Pixels:
    """Quilted from a pool of 16 patches of 28 px."""
    pool = [field((28, 28), np.random.default_rng([6, index])) for index in range(16)]
    height, width = clean.shape[:2]
    rows = [
        np.hstack([pool[rng.integers(16)] for _ in range(-(-width // 28))]) for _ in range(-(-height // 28))
    ]
    return to_pixels(clean + level(clean) * np.vstack(rows)[:height, :width])


def _level_of(values: Callable[[Field], Field]) -> Law:
    return lambda clean, rng: to_pixels(clean + values(level(clean)) * field(clean.shape, rng))


WRONG: dict[str, Wrong] = {
    "too weak": Wrong(_scaled(0.7), "level", "Too weak"),
    "too strong": Wrong(_scaled(1.4), "level", "Too strong"),
    "weak in the shadows": Wrong(
        _level_of(lambda std: np.maximum(std - 3.0 * np.clip((7.5 - std) / 2.5, 0, 1), 0.8)),
        "tones",
        "Too weak in the shadows",
    ),
    "same level everywhere": Wrong(
        _level_of(lambda std: np.full_like(std, 8.3)), "tones", "Too strong in the shadows"
    ),
    "too white": Wrong(_grain(0.0), "grain", "Too white"),
    "too coarse": Wrong(_grain(1.2), "grain", "too coarse"),
    "untied channels": Wrong(_ties(0.0), "channels", "too little"),
    "grey noise": Wrong(_ties(0.95), "channels", "too much"),
    "heavy tails": Wrong(HONEST["heavy tails"], "tails", "Heavier tails"),
    "blurred content": Wrong(_blurred, "detail", "Detail is blurred"),
    "colour cast": Wrong(_cast, "colour", "Colour cast of +2."),
    "deterministic": Wrong(_deterministic, "randomness", "No randomness"),
    "half random": Wrong(_half_random, "randomness", "Too little randomness"),
    "tiled": Wrong(_tiled, "repetition", "The noise repeats"),
    "one field": Wrong(_one_field, "repetition", "carry the same pattern"),
    "pool of patches": Wrong(_pool, "repetition", "The noise repeats"),
}
