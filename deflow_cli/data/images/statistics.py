"""Channel statistics of a set of images: means and standard deviations, as DeFlow's AIM model takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deflow_cli.data.images.image_cache import ImageCache
from deflow_cli.errors import DataError
from deflow_cli.layers.networks.resize import bicubic_downsample


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and population std of each channel over all pixels, in [0, 1]; every image weighs the same."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def channel_statistics(
    cache: ImageCache, *, downsample: int | None = None, max_images: int = 400
) -> ChannelStatistics:
    """Statistics of at most ``max_images`` images, spread evenly over the cache; broken ones are left out.

    downsample: take them after bicubic downsampling by this factor, as the conditioning image h sees them.
    Raises DataError if no image can be read.
    """
    picked = np.unique(np.linspace(0, len(cache) - 1, min(len(cache), max_images)).round().astype(int))
    means, squares = [], []
    for index in picked:
        try:
            pixels = cache.get(int(index))
        except DataError:
            continue
        values = pixels.reshape(-1, 3)
        if downsample is None:
            counts = np.stack([np.bincount(values[:, c], minlength=256) for c in range(3)])  # exact and small
            levels = np.arange(256) / 255
            means.append(counts @ levels / len(values))
            squares.append(counts @ levels**2 / len(values))
        else:
            planes = torch.from_numpy(np.array(pixels.transpose(2, 0, 1))).float()[None] / 255
            small = bicubic_downsample(planes, downsample)[0].double().flatten(1)
            means.append(small.mean(1).numpy())
            squares.append(small.square().mean(1).numpy())
    if not means:
        raise DataError(f"{cache.paths[0].parent if len(cache) else 'the pool'}: no image can be read")
    mean = np.stack(means).mean(0)
    std = np.sqrt(np.maximum(np.stack(squares).mean(0) - mean**2, 0))
    return ChannelStatistics(_triple(mean), _triple(std))
