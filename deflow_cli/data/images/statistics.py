"""Channel statistics of a set of images, and whether those of two sets differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deflow_cli.data.images.folders import fingerprint
from deflow_cli.data.images.image_cache import ImageCache
from deflow_cli.errors import DataError
from deflow_cli.layers.networks.resize import bicubic_downsample

__all__ = ["ChannelDifference", "ChannelStatistics", "channel_statistics", "differ", "fingerprint"]

_CHANNELS = ("red", "green", "blue")


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and population std of each channel over all pixels, every image with the same weight, in [0, 1].

    image_means, image_squares: N x 3, each image's mean and mean square, from which the errors follow.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image_means: NDArray[np.float64]
    image_squares: NDArray[np.float64]

    @property
    def mean_errors(self) -> NDArray[np.float64]:
        """Standard error of each mean; images, not pixels, are the sample."""
        return self.image_means.std(0, ddof=1) / np.sqrt(len(self.image_means))

    @property
    def std_errors(self) -> NDArray[np.float64]:
        """Standard error of each std by its influence function: one image moves the variance by
        (m2_i - m2) - 2 m (m_i - m), m and m2 the set's mean and mean square."""
        mean, square = self.image_means.mean(0), self.image_squares.mean(0)
        influence = (self.image_squares - square) - 2 * mean * (self.image_means - mean)
        error = influence.std(0, ddof=1) / np.sqrt(len(influence))
        return error / (2 * np.maximum(np.asarray(self.std), 1e-6))


@dataclass(frozen=True)
class ChannelDifference:
    """Whether two sets' statistics differ; z scores per channel of noisy minus clean; the reason in words."""

    differs: bool
    z_mean: tuple[float, float, float]
    z_std: tuple[float, float, float]
    text: str


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
    image_means, image_squares = np.stack(means), np.stack(squares)
    mean = image_means.mean(0)
    std = np.sqrt(np.maximum(image_squares.mean(0) - mean**2, 0))
    return ChannelStatistics(_triple(mean), _triple(std), image_means, image_squares)


def differ(
    clean: ChannelStatistics,
    noisy: ChannelStatistics,
    *,
    threshold: float = 4.0,
    minimum: float = 1 / 255,
) -> ChannelDifference:
    """Whether a channel's mean or std differs by more than ``threshold`` standard errors and ``minimum``.

    Noise alone raises the std: compare statistics of downsampled images to ask for colours and contrast.
    A set of one image has no standard error, so it never differs.
    """
    if min(len(clean.image_means), len(noisy.image_means)) < 2:
        zero = (0.0, 0.0, 0.0)
        return ChannelDifference(False, zero, zero, "too few images to compare channel statistics")
    differences = np.stack(
        [np.subtract(noisy.mean, clean.mean), np.subtract(noisy.std, clean.std)]  # 2 x 3: mean, std
    )
    errors = np.stack(
        [np.hypot(clean.mean_errors, noisy.mean_errors), np.hypot(clean.std_errors, noisy.std_errors)]
    )
    z = differences / np.maximum(errors, 1e-9)
    hits = (np.abs(z) > threshold) & (np.abs(differences) > minimum)
    kind, channel = np.unravel_index(
        np.argmax(np.where(hits, np.abs(z), -1) if hits.any() else np.abs(z)), z.shape
    )
    levels = 255 * differences[kind, channel]
    what = f"the {_CHANNELS[channel]} {('mean', 'std')[kind]} differs by {levels:+.1f}/255"
    verdict = "beyond" if hits.any() else "within"
    text = f"{what} (z = {z[kind, channel]:+.1f}), {verdict} sampling error over images"
    return ChannelDifference(bool(hits.any()), _triple(z[0]), _triple(z[1]), text)
