"""Local levels: fine detail by brightness and texture, and the spectrum of an image's quietest patches.

Both serve to match synthetic noise to real noise without pairs, by comparing synthetic with real images.
Scenes then enter both sides alike. Averages are of logarithms, and levels are medians: scenes have heavy
tails, on which the noise must not depend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.arrays import Array, Pixels
from deflow_cli.models.deflow.grain import Places, guide_features, opponent_basis, places

QUANTILE = 0.5  # of the residual's magnitudes in a bin
LUMINANCE_BLUR, COLOUR_BLUR = 1.2, 2.5  # px, standard deviation of the Gaussian that is subtracted
QUIET_SHARE = 0.25  # of an image's patches
QUIET_PATCH = 64  # px
_FEWEST_PIXELS, _MOST_PIXELS = (
    60,
    1500,
)  # of an image in a bin: to count at all, and beyond which it counts no more
_BORDER = 4  # px left out
_SOFTENING = 0.15  # grey levels added before a logarithm: below, rounding to 8 bits decides
_LEAST_POWER = 1e-3  # grey levels squared

Spectrum = NDArray[np.complex128]  # 64 x 64 x 3 x 3 in FFT order


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
    """Log levels of n images' opponent channels in each bin (C x n x bins), and weights (n x bins).

    Weights are 0 where an image has too few pixels. scenes: a number of the scene that each image shows; what
    is unusual about a scene all its images have. Opponent channels: luminance and two colour differences.
    Luminance is taken above 1.2 px, the differences, where scenes have less fine detail, above 2.5 px.
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
        log_levels, weights = np.zeros((3, len(images), bins)), np.zeros((len(images), bins))
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
                    values = np.quantile(flat[order[bounds[k] : bounds[k + 1]]], QUANTILE, axis=0)
                    log_levels[:, n, k] = np.log(values + _SOFTENING)
                    weights[n, k] = min(count, _MOST_PIXELS)
        return cls(log_levels, weights, np.arange(len(images)) if scenes is None else np.array(scenes))

    def take(self, chosen: NDArray[np.bool_]) -> Levels:
        """Those of some of the images."""
        return Levels(self.log_levels[:, chosen], self.weights[chosen], self.scenes[chosen])

    def mean(self) -> tuple[Array, Array, Array]:
        """Weighted mean over images and its standard error, C x bins; the number of scenes of each bin."""
        total = np.maximum(self.weights.sum(0), 1e-9)
        share = self.weights / total
        mean = (share * self.log_levels).sum(1)
        shows = self.scenes == np.unique(self.scenes)[:, None]
        count = (shows @ self.weights > 0).sum(0)
        deviation = shows @ (share * (self.log_levels - mean[:, None]))
        variance = (deviation**2).sum(1) * count / np.maximum(count - 1, 1)
        return mean, np.where(count > 2, np.sqrt(variance), np.inf), count

    def spread(self, share_b: Array) -> float:
        """Variance between images of the logarithm of their noise's level.

        share: of luminance's level in each bin that is noise. An image's log levels stand above the means by
        about its own log noise level times that share, of which this is the weighted least-squares estimate:
        where scenes make the level it counts little. Levels of colour differences are left out, for they vary
        with how colourful a scene is.
        """
        deviation = self.log_levels[0] - self.mean()[0][0]
        precision = self.weights @ share_b**2
        own = (self.weights * deviation) @ share_b / np.maximum(precision, 1e-9)
        return float(np.average(own**2, weights=precision)) if precision.sum() else 0.0


def _residual(image: Pixels) -> Array:
    """Fine detail of the opponent channels, H x W x 3."""
    pixels = image.astype(np.float32) @ opponent_basis(3).numpy().T
    blurs = (LUMINANCE_BLUR, COLOUR_BLUR, COLOUR_BLUR)
    blurred = [
        cv2.GaussianBlur(pixels[..., c], (0, 0), blur, borderType=cv2.BORDER_REFLECT_101)
        for c, blur in enumerate(blurs)
    ]
    return cast(Array, pixels - np.stack(blurred, -1))


def quiet_spectrum(images: Sequence[Pixels]) -> Spectrum:
    """Cross-spectra of the quietest quarter of each image's patches, geometric mean over the images.

    64 x 64 x 3 x 3 in FFT order. Patches of 64 x 64 every 32 pixels, without their mean, under a Hann window,
    in grey levels squared; white noise of variance v has v times the identity. The geometric mean of positive
    matrices is exp of the mean of their logarithms (log-Euclidean mean): an image that is all texture counts
    no more than others. Images are at least 64 x 64.
    """
    hann = np.hanning(QUIET_PATCH + 1)[:-1]
    window = np.outer(hann, hann)
    total: Spectrum | float = 0.0
    for image in images:
        views = np.lib.stride_tricks.sliding_window_view(image, (QUIET_PATCH, QUIET_PATCH), axis=(0, 1))
        patches = views[:: QUIET_PATCH // 2, :: QUIET_PATCH // 2].reshape(-1, 3, QUIET_PATCH, QUIET_PATCH)
        patches = patches.astype(np.float64)
        mean = (patches * window).sum((-1, -2), keepdims=True) / window.sum()
        patches = (patches - mean) * window
        order = np.argsort((patches**2).sum((1, 2, 3)))
        chosen = order[: max(4, round(QUIET_SHARE * len(order)))]
        waves = np.fft.fft2(patches[chosen]) / np.sqrt((window**2).sum())
        spectrum = np.einsum("nayx,nbyx->yxab", waves, waves.conj()) / len(chosen)
        total = total + _logarithm(smoothed_spectrum(spectrum))
    return _exponential(cast(Spectrum, total) / len(images))


def smoothed_spectrum(spectrum: Spectrum) -> Spectrum:
    """Averaged with the neighbouring frequencies, binomial weights 1 2 1."""
    for axis in (0, 1):
        spectrum = 0.5 * spectrum + 0.25 * (np.roll(spectrum, 1, axis) + np.roll(spectrum, -1, axis))
    return spectrum


def positive(spectrum: Spectrum, least: float = 1e-5) -> Spectrum:
    """The nearest positive matrices: eigenvalues are at least ``least`` of the largest of all."""
    values, vectors = np.linalg.eigh(spectrum)
    return _from_eigen(np.maximum(values, least * values.max()), vectors)


def _logarithm(spectrum: Spectrum) -> Spectrum:
    values, vectors = np.linalg.eigh(spectrum)
    return _from_eigen(np.log(np.maximum(values, _LEAST_POWER)), vectors)


def _exponential(spectrum: Spectrum) -> Spectrum:
    values, vectors = np.linalg.eigh(spectrum)
    return _from_eigen(np.exp(values), vectors)


def _from_eigen(values: Array, vectors: Spectrum) -> Spectrum:
    return cast(Spectrum, np.einsum("...ab,...b,...cb->...ac", vectors, values, vectors.conj()))
