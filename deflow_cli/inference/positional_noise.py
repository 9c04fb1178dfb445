"""Noise that belongs to a position: the same draw whatever the tile, the batch, the order or the device."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def stable_generator(*parts: object) -> np.random.Generator:
    """A generator seeded by a 128-bit hash of the parts' texts; the same on every machine.

    Philox takes the whole hash as its key. torch's CPU generator would keep 32 bits of a seed, few enough
    for two cells of a large folder to share their noise.
    """
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


class PositionalNoise:
    """Fields of independent numbers over an endless plane, one per name of a stream.

    A number depends only on (seed, key, stream, channel, absolute position). The plane is cut into aligned
    cells of ``cell`` x ``cell`` positions; each is drawn by its own generator. seed: the user's. key: what
    the noise belongs to, such as an image's name.
    """

    def __init__(self, seed: int, key: str, cell: int = 64) -> None:
        assert cell >= 1
        self.seed = seed
        self.key = key
        self.cell = cell

    def normal(self, stream: str, channels: int, top: int, left: int, height: int, width: int) -> Tensor:
        """Standard normals of a window of the plane: 1 C H W, float32, on the CPU."""
        return self._window("normal", stream, channels, top, left, height, width)

    def uniform(self, stream: str, channels: int, top: int, left: int, height: int, width: int) -> Tensor:
        """Uniforms in [-0.5, 0.5) of a window of the plane: 1 C H W, float32, on the CPU."""
        return self._window("uniform", stream, channels, top, left, height, width)

    def _window(
        self, kind: str, stream: str, channels: int, top: int, left: int, height: int, width: int
    ) -> Tensor:
        assert min(top, left) >= 0
        cell = self.cell
        field = np.empty((channels, height, width), np.float32)
        for row in range(top // cell, -(-(top + height) // cell)):
            for column in range(left // cell, -(-(left + width) // cell)):
                y, x = row * cell, column * cell
                y0, y1 = max(y, top), min(y + cell, top + height)
                x0, x1 = max(x, left), min(x + cell, left + width)
                drawn = self._cell(kind, stream, channels, row, column)
                field[:, y0 - top : y1 - top, x0 - left : x1 - left] = drawn[
                    :, y0 - y : y1 - y, x0 - x : x1 - x
                ]
        return torch.from_numpy(field)[None]

    def _cell(self, kind: str, stream: str, channels: int, row: int, column: int) -> NDArray[np.float32]:
        generator = stable_generator(self.seed, self.key, kind, stream, row, column)
        shape = (channels, self.cell, self.cell)
        if kind == "normal":
            return generator.standard_normal(shape, dtype=np.float32)
        return generator.random(shape, dtype=np.float32) - np.float32(0.5)
