"""Independence: whether two degradations of one picture differ as two draws of noise do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Array, Pixels
from deflow_cli.errors import DataError
from deflow_cli.metrics.noise.content import without_content
from deflow_cli.metrics.noise.residual import Fluctuation, chance_variance, luma, residual_of

ALLOWANCE = 0.10
"""Correlation granted for what a camera does alike in every shot: clipping, compression, tone."""
DEVIATIONS = 4.0


@dataclass(frozen=True)
class Independence:
    """How independent n samples of each picture are.

    ``correlation``: mean over pictures and pairs of samples of the correlation of their residuals, each
    one's channel means removed; 0 for independent noise, 1 for a deterministic model. It holds the blur,
    tone and compression artefacts that every sample shares, so the verdict goes by ``noise_correlation``:
    the same in the calmer half of each picture, after removing what a linear filter of the clean picture
    explains (JPEG 40 over noise of 8 grey levels leaves 0.05, JPEG 30 over white noise 0.2).
    ``bound``: what independent noise of this size and autocorrelation stays below at 4 sigma (see
    `chance_variance`), plus 0.10 for the part that even a camera repeats. ``average_ratio``: MSE of the
    mean of n samples over the mean MSE of one, channel means removed; ``expected_ratio``: 1 / n, its value
    for independent noise. ``identical``: every sample of a picture is the same, byte for byte.
    """

    images: int
    samples: int
    correlation: float
    noise_correlation: float
    bound: float
    average_ratio: float
    expected_ratio: float
    identical: bool

    @property
    def effective_samples(self) -> float:
        """How many independent samples the n are worth when averaged: 1 / average_ratio, n at best."""
        return 1.0 / max(self.average_ratio, 1e-12)

    @property
    def passes(self) -> bool:
        return not self.identical and self.noise_correlation <= self.bound


def measure_independence(cleans: Sequence[Pixels], samples: Sequence[Sequence[Pixels]]) -> Independence:
    """Measure samples[i], n >= 2 degradations of cleans[i]; uint8 H x W x 3. Deterministic.

    A picture that no sample changes correlates 1. Raises DataError when there is no picture, fewer than
    two samples of one, or when sizes differ.
    """
    if not cleans or len(cleans) != len(samples):
        raise DataError(f"got samples of {len(samples)} pictures for {len(cleans)} clean pictures")
    least = min(len(draws) for draws in samples)
    if least < 2:
        raise DataError(f"independence needs two samples or more of each picture, got {least}")
    raw, noise, variances, ratios, identical = [], [], [], [], True
    for clean, draws in zip(cleans, samples, strict=True):
        draws = draws[:least]
        identical = identical and all(np.array_equal(draws[0], draw) for draw in draws[1:])
        residuals = [residual_of(clean, draw) for draw in draws]
        residuals = [residual - residual.mean(axis=(0, 1)) for residual in residuals]
        calm = calm_half(clean)
        left = np.split(noise_in(np.concatenate(residuals, axis=2), clean, calm), least, axis=2)
        pairs = list(combinations(range(least), 2))
        raw.append(np.mean([correlation(residuals[i], residuals[j]) for i, j in pairs]))
        noise.append(np.mean([correlation(left[i], left[j]) for i, j in pairs]))
        # pairs of one picture share samples, yet their correlations do not correlate: variances add
        variances.append(chance_variance(Fluctuation.of(left[0]), Fluctuation.of(left[1])) / len(pairs))
        single = float(np.mean([np.mean(residual**2) for residual in residuals]))
        mean_square = float(np.mean(np.mean(residuals, axis=0) ** 2))
        ratios.append(mean_square / single if single > 0 else 1.0)
    spread = float(np.sqrt(np.sum(variances))) / len(variances)
    return Independence(
        images=len(cleans),
        samples=least,
        correlation=float(np.mean(raw)),
        noise_correlation=float(np.mean(noise)),
        bound=DEVIATIONS * spread + ALLOWANCE,
        average_ratio=float(np.mean(ratios)),
        expected_ratio=1.0 / least,
        identical=identical,
    )


def calm_half(clean: Pixels) -> NDArray[np.bool_]:
    """The half of the pixels around which (17 x 17) the clean picture's luma varies least: H x W."""
    grey = luma(clean / 255.0)
    mean, square = (cv2.blur(p, (17, 17), borderType=cv2.BORDER_REFLECT_101) for p in (grey, grey**2))
    variance = square - mean**2
    return variance <= np.median(variance)


def noise_in(residual: Array, clean: Pixels, mask: NDArray[np.bool_]) -> Array:
    """Residuals H x W x C less content within a mask, channel means removed there; zero outside."""
    noise = without_content(residual, clean / 255.0)
    return np.where(mask[..., None], noise - noise[mask].mean(axis=0), 0.0)


def correlation(first: Array, second: Array) -> float:
    """Correlation of two residuals of mean zero, all channels together; 1 where both are zero."""
    scale = float(np.sqrt(np.sum(first**2) * np.sum(second**2)))
    if scale < 1e-18:
        return 1.0 if np.allclose(first, second) else 0.0
    return float(np.sum(first * second) / scale)
