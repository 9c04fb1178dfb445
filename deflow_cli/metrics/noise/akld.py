"""AKLD: how like the real variance, pixel by pixel, is that of a synthetic residual (DANet, ECCV 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import cv2
import numpy as np

from deflow_cli.arrays import Array
from deflow_cli.errors import DataError

AKLD_SAMPLES = 50
"""Most samples of one picture that are averaged, as published."""
FLOOR = 1e-10
CLAMP = 10.0


def variance_map(residual: Array) -> Array:
    """Local variance of r, H x W x C: Gaussian mean (7 x 7, sigma 1.4, reflected without the edge) of r^2."""
    square = np.ascontiguousarray(np.asarray(residual, dtype=np.float64) ** 2)
    blurred = cv2.GaussianBlur(square, (7, 7), 1.4, borderType=cv2.BORDER_REFLECT_101)
    return np.maximum(blurred.reshape(residual.shape), FLOOR)


def akld(real_residual: Array, fake_residual: Array) -> float:
    """AKLD of one picture: mean of (log(1/d) + d - 1) / 2, d = var_fake / var_real clamped to [0.1, 10].

    Residuals H x W x C on the [0, 1] scale. Lower is better, and at least 0; NOT zero for a perfect model,
    since variance maps of 7 x 7 pixels are noisy: print `akld_self_floor` beside it. Raises DataError when
    the shapes differ.
    """
    if real_residual.shape != fake_residual.shape:
        raise DataError(f"the real residual is {real_residual.shape}, the synthetic {fake_residual.shape}")
    return _divergence(variance_map(real_residual), variance_map(fake_residual))


def _divergence(real: Array, fake: Array) -> float:
    ratio = np.clip(fake / real, 1.0 / CLAMP, CLAMP)
    return float(np.mean(-np.log(ratio) + ratio - 1.0) / 2.0)


def mean_akld(real: Sequence[Array], fakes: Sequence[Sequence[Array]]) -> float:
    """AKLD averaged over the samples of each picture (up to 50), then over pictures.

    fakes[i]: synthetic residuals of the picture of real[i]. Raises DataError when there is none, or when
    the numbers differ.
    """
    if not real or len(real) != len(fakes) or not all(len(samples) for samples in fakes):
        raise DataError(
            f"AKLD needs one or more synthetic residuals for each real one, got {len(real)} real "
            f"and {[len(samples) for samples in fakes]} synthetic"
        )
    return float(
        np.mean(
            [
                np.mean([akld(truth, sample) for sample in samples[:AKLD_SAMPLES]])
                for truth, samples in zip(real, fakes, strict=True)
            ]
        )
    )


def akld_self_floor(fakes: Sequence[Sequence[Array]], generator: np.random.Generator) -> float:
    """AKLD that two independent draws of the very same law score: what a perfect model would be given.

    Where a picture has two samples or more, sample against sample (at most 12 ordered pairs). Where it has
    one, two stand-ins: Gaussian noise of its spectrum, times its own local std, drawn twice. Pictures whose
    residual is zero count as 0. Raises DataError when there is no residual.
    """
    if not fakes or not all(len(samples) for samples in fakes):
        raise DataError("the floor of AKLD needs one or more synthetic residuals for each picture")
    scores = []
    for samples in fakes:
        draws = samples if len(samples) > 1 else [_stand_in(samples[0], generator) for _ in range(2)]
        maps = [variance_map(draw) for draw in draws[:4]]
        scores.append(np.mean([_divergence(a, b) for a, b in permutations(maps, 2)]))
    return float(np.mean(scores))


def _stand_in(residual: Array, generator: np.random.Generator) -> Array:
    """Gaussian noise with a residual's spectrum and local std."""
    local_std = np.sqrt(variance_map(residual))
    amplitude = np.abs(np.fft.fft2(residual / local_std, axes=(0, 1)))
    phase = np.fft.fft2(generator.standard_normal(residual.shape), axes=(0, 1))
    phase /= np.maximum(np.abs(phase), 1e-12)
    noise = np.fft.ifft2(amplitude * phase, axes=(0, 1)).real
    return noise * local_std / max(float(noise.std()), 1e-12)
