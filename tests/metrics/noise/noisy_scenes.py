"""Pictures made in code, no two alike, with noise of a known law on them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Array


@dataclass(frozen=True)
class Law:
    """Std in grey levels at luma l: std (1 + slope (l - 0.5)); then a blur in px, channel gains, mixing."""

    std: float = 10.0
    slope: float = 0.0
    blur: float = 0.0
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shared: float = 0.0


def scene(rng: np.random.Generator, size: int = 192) -> Array:
    """Smooth shading, straight edges of objects and one textured object: size x size x 3 in 0.08..0.92."""
    coarse = rng.uniform(0.15, 0.85, (3, 3, 3))
    picture = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:size, :size]
    for index in range(4):
        (cy, cx), (height, width) = rng.uniform(0, size, 2), rng.uniform(0.1, 0.35, 2) * size
        inside = (np.abs(y - cy) < height) & (np.abs(x - cx) < width)
        colour = rng.uniform(0.15, 0.85, 3) + 0.1 * (x / size - 0.5)[..., None]
        if index == 3:
            grain = cv2.GaussianBlur(rng.standard_normal((size, size, 1)), (0, 0), 1.0)
            colour = colour + 0.35 * grain.reshape(size, size, 1)
        picture = np.where(inside[..., None], colour, picture)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 0.6), 0.08, 0.92)


def noise(law: Law, clean: Array, rng: np.random.Generator) -> Array:
    """Noise of the law on a picture in [0, 1], in grey levels."""
    own, common = rng.standard_normal(clean.shape), rng.standard_normal((*clean.shape[:2], 1))
    values = np.sqrt(1 - law.shared) * own + np.sqrt(law.shared) * common
    if law.blur:
        values = cv2.GaussianBlur(values, (0, 0), law.blur)
        values /= values.std()
    level = law.std * (1 + law.slope * (clean.mean(axis=2, keepdims=True) - 0.5))
    return level * values * np.array(law.gains)


def noisy(law: Law, count: int, seed: int, size: int = 192) -> list[NDArray[np.uint8]]:
    """Pictures of scenes of their own, with noise of the law."""
    found = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        clean = scene(rng, size)
        found.append(np.clip(np.rint(255 * clean + noise(law, clean, rng)), 0, 255).astype(np.uint8))
    return found
