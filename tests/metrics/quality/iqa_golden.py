"""Golden pictures of the image-quality metrics, rebuilt from integers, and the figures of each."""

from __future__ import annotations

import csv
import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.arrays import Pixels

FIGURES = Path(__file__).parents[2] / "golden" / "iqa_synth.csv"
NAMES = ("A", "A_noise", "A_blur", "A_flat", "A_odd", "B", "A_dark")
WITH_REFERENCE = ("A_noise", "A_blur", "A_flat", "A_dark")
"""Those of A's size, compared with A."""


def box_sums(values: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Sums over all whole side x side windows, indexed by their top-left corner."""
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1), dtype=np.int64)
    total[1:, 1:] = values.cumsum(0).cumsum(1)
    return total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]


def synth(height: int, width: int, seed: int) -> Pixels:
    """H x W x 3: three scales of noise over gradients and a checkerboard, integers only."""
    y, x = np.mgrid[:height, :width]
    channels = []
    for c in range(3):
        noise = np.random.RandomState(seed + c).randint(0, 256, (height + 16, width + 16))
        noise = noise.astype(np.int64)
        fine = box_sums(noise, 3)[7 : 7 + height, 7 : 7 + width] // 9
        middle = box_sums(noise, 9)[4 : 4 + height, 4 : 4 + width] // 81
        coarse = box_sums(noise, 17)[:height, :width] // 289
        level = 128 + (fine - 128) // 2 + 2 * (middle - 128) + 4 * (coarse - 128)
        level += (x * (40 + 10 * c)) // width - (y * 30) // height + 24 * ((x // 32 + y // 32) % 2)
        channels.append(np.clip(level, 0, 255).astype(np.uint8))
    return np.stack(channels, axis=2)


@cache
def golden_pixels(name: str) -> Pixels:
    """uint8 H x W x 3."""
    if name == "B":
        return synth(384, 384, 50)
    if name == "A":
        return synth(256, 320, 7)
    plain = golden_pixels("A").astype(np.int64)
    if name == "A_noise":
        plain = plain + np.random.RandomState(100).randint(-12, 13, plain.shape)
    elif name == "A_blur":
        padded = np.pad(plain, ((1, 1), (1, 1), (0, 0)), mode="edge")
        plain = np.stack([box_sums(padded[..., c], 3) // 9 for c in range(3)], axis=2)
    elif name == "A_flat":
        plain[:160, :160] = 255
    elif name == "A_odd":
        plain = plain[:203, :250]
    elif name == "A_dark":
        plain = plain // 3
    else:
        raise KeyError(name)
    return np.ascontiguousarray(np.clip(plain, 0, 255).astype(np.uint8))


def as_batch(*pixels_hwc: Pixels) -> Tensor:
    """uint8 B x 3 x H x W."""
    return torch.stack([torch.from_numpy(p.copy()).permute(2, 0, 1) for p in pixels_hwc]).contiguous()


def golden_batch(*names: str) -> Tensor:
    return as_batch(*(golden_pixels(name) for name in names))


@cache
def figures() -> dict[str, dict[str, str]]:
    """Picture -> column -> figure as text; empty where it has none."""
    with FIGURES.open(newline="", encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def sha256_16(pixels_hwc: Pixels) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels_hwc).tobytes()).hexdigest()[:16]
