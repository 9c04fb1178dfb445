"""Challenge: the synthetic image, its four samples and AlexNet's stand-in, by which the protocol is pinned.

The figures were computed with the challenge's public tool on exactly these arrays.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from deflow_cli.arrays import Pixels
from tests.metrics.quality.iqa_golden import synth

HEIGHT, WIDTH, SAMPLES, SCALE = 64, 96, 4, 4
SPATIAL_LPIPS = (0.00378454, 0.00334753, 0.00378168, 0.00478633)
PLAIN_LPIPS = (0.00378494, 0.00334735, 0.00378150, 0.00478618)
LR_PSNR = (45.587723, 45.334942, 44.974088, 45.215789)
SQUARED_ERROR = (27.412321, 27.326378, 27.566542, 27.655529)
PSNR = (32.206356, 32.219994, 32.181992, 32.167995)
LPIPS_MEAN, LPIPS_GLOBAL, LPIPS_LOCAL, LPIPS_SCORE = 0.00392502, 0.00334753, 0.00223880, 33.1210
ERROR_GLOBAL, ERROR_LOCAL, ERROR_SCORE = 27.326378, 4.604212, 83.1510
LR_PSNR_MEAN, LR_PSNR_WORST = 45.278136, 44.974088

_ALEXNET = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3)}
_ALEXNET[10] = (256, 256, 3, 3)


def truth() -> Pixels:
    """uint8 64 x 96 x 3."""
    return synth(HEIGHT, WIDTH, 7)


def sample(k: int) -> Pixels:
    """The truth with noise, but for the columns 24 k to 24 k + 23, where sample k equals it."""
    noise = np.random.RandomState(200 + k).randint(-12, 13, (HEIGHT, WIDTH, 3))
    noise[:, 24 * k : 24 * k + 24] = 0
    return np.clip(truth().astype(int) + noise, 0, 255).astype(np.uint8)


def alexnet() -> dict[str, Tensor]:
    """AlexNet's convolutions with weights drawn by their names, as torchvision's file has them."""
    tensors = {}
    for index, shape in _ALEXNET.items():
        std = math.sqrt(2 / math.prod(shape[1:]))
        tensors[f"features.{index}.weight"] = _uniform(f"features.{index}.weight", shape, std)
        tensors[f"features.{index}.bias"] = _uniform(f"features.{index}.bias", shape[:1], 0.05)
    return tensors


def _uniform(key: str, shape: tuple[int, ...], std: float) -> Tensor:
    random = np.random.RandomState(zlib.crc32(f"5/{key}".encode()) & 0x7FFFFFFF)
    values = (2 * random.random_sample(shape) - 1) * (math.sqrt(3) * std)
    return torch.from_numpy(values.astype(np.float32))


def tensor(pixels: Pixels) -> Tensor:
    """uint8 3 x H x W."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
