"""Compression of samples: the last step of degrading by a model whose degraded pictures were JPEGs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.data.images.files import to_pixels
from deflow_cli.data.jpeg_history import FolderCompression, compress_alike
from deflow_cli.degraders.base import Draw
from deflow_cli.errors import CheckpointError
from deflow_cli.inference.positional_noise import stable_generator


@dataclass(frozen=True)
class SampleCompression:
    """Compresses whole samples as the pictures that a model was fitted to had been.

    The setting is drawn by (seed, key, sample), as often as the folder has it. At temperature 0 nothing is
    random, and every sample takes the most frequent one. The grid of 8 x 8 blocks starts at the upper left.
    """

    folder: FolderCompression

    @classmethod
    def recorded(cls, facts: Mapping[str, Any], path: Path) -> Self | None:
        """What a model file's facts record, if anything. Raises CheckpointError naming the file."""
        if "compression" not in facts:
            return None
        try:
            folder = FolderCompression.from_dict(facts["compression"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(
                f"{path}: its record of a compression cannot be read ({error})", next_step="fit it again"
            ) from error
        return cls(folder) if folder.settings else None

    def pixels(self, pixels_hwc: NDArray[np.uint8], draw: Draw) -> NDArray[np.uint8]:
        """A sample of 8 bits, H x W x 3. Raises DataError for sides that a JPEG cannot have."""
        if draw.temperature == 0:
            usual = FolderCompression(1, ((self.folder.settings[0][0], 1.0),))
            return compress_alike(pixels_hwc, usual, np.random.default_rng(0))
        random = stable_generator(draw.seed, draw.key, "compression", draw.sample)
        return compress_alike(pixels_hwc, self.folder, random)

    def __call__(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        """Samples B x 3 x H x W in [0, 1], with one draw each: the same, rounded to 8 bits, on the device."""
        result = torch.empty_like(image_bchw)
        for picture, degraded, draw in zip(image_bchw, result, draws, strict=True):
            degraded.copy_(_to_tensor(self.pixels(to_pixels(picture[None]), draw)))
        return result

    def finish(self, image_chw: Tensor, seed: int, key: str, sample: int, temperature: float) -> Tensor:
        """One sample, 3 x H x W, with the parts of its draw apart, as `DegradationModel` has them."""
        return self(image_chw[None], [Draw(seed, key, sample, temperature)])[0]


def _to_tensor(pixels_hwc: NDArray[np.uint8]) -> Tensor:
    """3 x H x W in [0, 1]."""
    return torch.from_numpy(pixels_hwc).permute(2, 0, 1).float() / 255
