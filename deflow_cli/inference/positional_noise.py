"""Noise that belongs to a position: the same draw whatever the tile, the batch, the order or the device."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.kernels.noise import Place, noise_field
from deflow_cli.texts import encoded


def stable_generator(*parts: object) -> np.random.Generator:
    """A generator seeded by a 128-bit hash of the parts' texts; the same on every machine.

    Philox takes the whole hash as its key. torch's CPU generator would use 32 bits of a seed, few enough
    for two images of a large folder to share their noise.
    """
    return np.random.Generator(np.random.Philox(key=_hash_of(*parts)))


def _hash_of(*parts: object) -> int:
    """128 bits of the parts' texts."""
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(encoded(text), digest_size=16).digest()
    return int.from_bytes(digest, "little")


class PositionalNoise:
    """Fields of independent numbers over an endless plane, one per name of a stream.

    A number depends only on (seed, key, stream, channel, number of channels, absolute position), and on the
    device to rounding alone (:func:`deflow_cli.kernels.noise.noise_field`). seed: the user's. key: what the
    noise belongs to, such as an image's name.

    >>> noise = PositionalNoise(seed=1, key="photo.png")
    >>> whole = noise.normal("film", 3, top=0, left=0, height=20, width=30)
    >>> torch.equal(noise.normal("film", 3, top=5, left=9, height=2, width=4), whole[..., 5:7, 9:13])
    True
    """

    def __init__(self, seed: int, key: str) -> None:
        self.seed = seed
        self.key = key

    def normal(
        self,
        stream: str,
        channels: int,
        top: int,
        left: int,
        height: int,
        width: int,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Standard normals of a window of the plane: 1 C H W, float32."""
        place = Place(top, left, height, width)
        return noise_field("normal", self._key("normal", stream), channels, place, device)

    def uniform(
        self,
        stream: str,
        channels: int,
        top: int,
        left: int,
        height: int,
        width: int,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Uniforms in [-0.5, 0.5) of a window of the plane: 1 C H W, float32."""
        place = Place(top, left, height, width)
        return noise_field("uniform", self._key("uniform", stream), channels, place, device)

    def _key(self, kind: str, stream: str) -> int:
        return _hash_of(self.seed, self.key, kind, stream)


class LatentNoise:
    """Standard normals for the latents of one image, by absolute position: tiles of any size draw the same.

    seed: the user's. key: what the noise belongs to, such as an image's name.
    """

    def __init__(self, seed: int, key: str) -> None:
        self._noise = PositionalNoise(seed, key)

    def draw(
        self, index: int, sample: int, channels: int, window: Window, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Normals of one latent of one sample: 1 C H W. window: in positions of the latent."""
        place = (window.top, window.left, window.height, window.width)
        return self._noise.normal(f"latent {index} sample {sample}", channels, *place, device)
