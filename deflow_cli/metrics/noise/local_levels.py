"""Local levels: fine detail by brightness and texture.

They serve to match synthetic noise to real noise without pairs, by comparing synthetic with real images.
Scenes then enter both sides alike. Averages are of logarithms, and levels are quantiles: scenes have heavy
tails, on which the noise must not depend. Two quantiles tell noise from a scene's contrast: noise lifts the
low one most, where scenes have little detail, contrast both alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.arrays import Array, Pixels
from deflow_cli.models.deflow.grain import Places, guide_features, opponent_basis, places

QUANTILES = (0.1, 0.9)  # of the residual's magnitudes in a bin
LUMINANCE_BLUR, COLOUR_BLUR = 1.2, 2.5  # px, standard deviation of the Gaussian that is subtracted
_FEWEST_PIXELS = 60  # of an image in a bin, to count at all
_MOST_PIXELS = 1500  # beyond which it counts no more
_BORDER = 4  # px left out
_SOFTENING = 0.2  # grey levels added before a logarithm: below, rounding to 8 bits decides
_CORRELATION = 0.9  # of what the quantiles' errors are found to have in common is counted
_RIDGE = 0.01  # of an image's weights, added to both unknowns' where these cannot be told apart


@dataclass(frozen=True)
class Knots:
    """Where a table of brightness and texture has its values."""

    brightness: Tensor
    texture: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.brightness), len(self.texture)

    def places(self, features: tuple[Tensor, Tensor]) -> tuple[Places, Places]:
        return places(features[0], self.brightness), places(features[1], self.texture)


def features_of(image: Pixels, seed: int) -> tuple[Tensor, Tensor]:
    """Brightness and texture of a picture's guide, 1 x H / 2 x W / 2, the noise drawn from a seed."""
    height, width = image.shape[:2]
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, -(-height // 2), -(-width // 2), generator=random)
    return guide_features(torch.from_numpy(image / np.float32(255)).permute(2, 0, 1)[None], noise)


@dataclass(frozen=True)
class Levels:
    """Log levels of n images' opponent channels in each bin (Q x C x n x bins), and weights (n x bins).

    Weights are 0 where an image has too few pixels. scenes: a number of the scene that each image shows; what
    is unusual about a scene all its images have. Opponent channels: luminance and two colour differences.
    Luminance is taken above 1.2 px, the differences, where scenes have less fine detail, above 2.5 px. A
    level is a quantile of magnitudes over a normal variable's of deviation 1: of Gaussian noise all Q agree.
    """

    log_levels: Array
    weights: Array
    scenes: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        images: Sequence[Pixels],
        features: Sequence[tuple[Tensor, Tensor]],
        knots: Knots,
        scenes: Sequence[int] | None = None,
    ) -> Levels:
        """A pixel belongs to the bin of the nearest knots of brightness and texture at its place.

        scenes: None where every image is a scene of its own.
        """
        rows, texture_knots = knots.shape
        bins = rows * texture_knots
        log_levels, weights = np.zeros((len(QUANTILES), 3, len(images), bins)), np.zeros((len(images), bins))
        normal = np.array([NormalDist().inv_cdf((1 + each) / 2) for each in QUANTILES])[:, None]
        for n, (image, seen) in enumerate(zip(images, features, strict=True)):
            (i, f), (j, g) = knots.places(seen)
            index = (i + (f > 0.5)) * texture_knots + j + (g > 0.5)
            bin_hw = index[0].numpy().repeat(2, 0).repeat(2, 1)[: image.shape[0], : image.shape[1]]
            magnitude = np.abs(_residual(image))
            inner = (slice(_BORDER, -_BORDER), slice(_BORDER, -_BORDER))
            flat_bins, flat = bin_hw[inner].ravel(), magnitude[inner].reshape(-1, image.shape[2])
            order = np.argsort(flat_bins, kind="stable")
            bounds = np.searchsorted(flat_bins[order], np.arange(bins + 1))
            for k in range(bins):
                count = bounds[k + 1] - bounds[k]
                if count >= _FEWEST_PIXELS:
                    values = np.quantile(flat[order[bounds[k] : bounds[k + 1]]], QUANTILES, axis=0)
                    log_levels[:, :, n, k] = np.log(values / normal + _SOFTENING)
                    weights[n, k] = min(count, _MOST_PIXELS)
        return cls(log_levels, weights, np.arange(len(images)) if scenes is None else np.array(scenes))

    def take(self, chosen: NDArray[np.bool_]) -> Levels:
        """Those of some of the images."""
        return Levels(self.log_levels[:, :, chosen], self.weights[chosen], self.scenes[chosen])

    def take_channels(self, channels: Sequence[int]) -> Levels:
        """Those of some of the opponent channels."""
        return Levels(self.log_levels[:, list(channels)], self.weights, self.scenes)

    def mean(self) -> tuple[Array, Array, Array]:
        """Weighted mean over images (Q x C x bins), the covariance of its quantiles (Q x Q x C x bins).

        Last the number of scenes in each bin; the covariance is infinite where these are not more than two.
        """
        total = np.maximum(self.weights.sum(0), 1e-9)
        share = self.weights / total
        mean = (share * self.log_levels).sum(2)
        shows = self.scenes == np.unique(self.scenes)[:, None]
        count = (shows @ self.weights > 0).sum(0)
        deviation = shows @ (share * (self.log_levels - mean[:, :, None]))
        covariance = np.einsum("qcsb,rcsb->qrcb", deviation, deviation) * count / np.maximum(count - 1, 1)
        own = np.eye(len(mean), dtype=bool)[..., None, None]
        covariance *= np.where(own, 1.0, _CORRELATION)
        return mean, np.where(own & (count <= 2), np.inf, covariance), count

    def of_images(self, share_qcb: Array) -> tuple[Array, Array]:
        """By how much the logarithm of each image's noise stands above the mean, and its precision.

        share: of each level, the part that is noise. An image's log levels stand above the means by about its
        own log noise level times that share, and its scene's log contrast in that channel times the rest:
        weighted least squares for both, so that where scenes make the level it counts little.
        """
        deviation = self.log_levels - self.mean()[0][:, :, None]
        channels = np.eye(share_qcb.shape[1])[:, None, :, None]
        parts = np.concatenate([share_qcb[None], (1 - share_qcb) * channels])
        products = np.einsum("nk,pqck,rqck->npr", self.weights, parts, parts)
        sums = np.einsum("nk,pqck,qcnk->np", self.weights, parts, deviation)
        least = _RIDGE * np.maximum(self.weights.sum(1), 1)[:, None, None] * len(QUANTILES)
        inverse = np.linalg.inv(products + least * np.eye(len(parts)))
        return np.einsum("nr,nr->n", inverse[:, 0], sums), 1 / inverse[:, 0, 0]


def _residual(image: Pixels) -> Array:
    """Fine detail of the opponent channels, H x W x 3."""
    pixels = image.astype(np.float32) @ opponent_basis(3).numpy().T
    blurs = (LUMINANCE_BLUR, COLOUR_BLUR, COLOUR_BLUR)
    blurred = [
        cv2.GaussianBlur(pixels[..., c], (0, 0), blur, borderType=cv2.BORDER_REFLECT_101)
        for c, blur in enumerate(blurs)
    ]
    return cast(Array, pixels - np.stack(blurred, -1))
