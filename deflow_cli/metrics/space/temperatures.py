"""Best temperature: at every pixel, the temperature whose samples are nearest to the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.arrays import Array
from deflow_cli.errors import ShapeError


@dataclass(frozen=True)
class BestTemperature:
    """Which of T temperatures is nearest to the truth, at every pixel and for the whole image.

    index_hw: 0 to T - 1 at every pixel. means: the mean distance of every temperature. local: the mean
    distance where every pixel has its best temperature. shares: of pixels, for every temperature.

    >>> best = best_temperature([torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 1.0]])])
    >>> best.index_hw.tolist(), best.means, best.best, best.gain
    ([[0, 1]], (2.0, 1.5), 1, 0.3333333333333333)
    """

    index_hw: NDArray[np.uint8]
    means: tuple[float, ...]
    local: float

    @property
    def best(self) -> int:
        """The temperature with the least mean distance."""
        return int(np.argmin(self.means))

    @property
    def gain(self) -> float:
        """The share of the best single temperature's distance that choosing at every pixel would save."""
        least = min(self.means)
        return 0.0 if least <= 0 else (least - self.local) / least

    @property
    def shares(self) -> Array:
        return np.bincount(self.index_hw.ravel(), minlength=len(self.means)) / self.index_hw.size


def best_temperature(maps_thw: Sequence[Tensor]) -> BestTemperature:
    """The best temperature by distance maps H x W, one for each temperature: the mean over its samples.

    Where several are equally near, the first of them counts. Raises ShapeError for no map, more than 256, or
    maps of different sizes.
    """
    if not 0 < len(maps_thw) <= 256 or len({tuple(found.shape) for found in maps_thw}) > 1:
        shapes = sorted({tuple(found.shape) for found in maps_thw})
        raise ShapeError(f"{len(maps_thw)} distance maps of the sizes {shapes}: 1 to 256 of one size are due")
    least = maps_thw[0].clone()
    index = torch.zeros(least.shape, dtype=torch.uint8, device=least.device)
    for place, found in enumerate(maps_thw[1:], start=1):
        nearer = found < least
        index[nearer] = place
        least = torch.minimum(least, found)
    means = tuple(float(found.mean(dtype=torch.float64)) for found in maps_thw)
    return BestTemperature(index.cpu().numpy(), means, float(least.mean(dtype=torch.float64)))
