"""Camera noise: a documented recipe of signal-dependent, slightly correlated sensor noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from deflow_cli.errors import DataError

TONE_STEEPNESS = 20.0
"""k of the tone curve y = log(1 + k x) / log(1 + k): a gamma-like curve of finite slope (6.6) at black."""


@dataclass(frozen=True)
class CameraGain:
    """One image's draw: a camera at one ISO setting.

    ``mid_tone``: std of the green noise at rendered mid grey (0.5), on the [0, 1] scale. ``read_share``:
    share of the variance there that does not depend on light. ``blur_rb``, ``blur_g``: std in pixels of
    the Gaussian that correlates the noise of red and blue, and of green. ``gain_r``, ``gain_b``: noise of
    red and blue relative to green, as white balance amplifies them.
    """

    mid_tone: float
    read_share: float
    blur_rb: float
    blur_g: float
    gain_r: float
    gain_b: float


def draw_gain(generator: np.random.Generator) -> CameraGain:
    """Draw one camera setting: mid-tone noise of 6 to 14 grey levels (of 255)."""
    return CameraGain(
        mid_tone=generator.uniform(6.0, 14.0) / 255.0,
        read_share=generator.uniform(0.005, 0.03),
        blur_rb=generator.uniform(0.6, 0.85),
        blur_g=generator.uniform(0.4, 0.6),
        gain_r=generator.uniform(1.0, 1.3),
        gain_b=generator.uniform(1.1, 1.5),
    )


def tone(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light to rendered value, y = log(1 + k x) / log(1 + k), x clipped at black."""
    return np.log1p(TONE_STEEPNESS * np.maximum(linear, 0.0)) / np.log1p(TONE_STEEPNESS)


def linearise(rendered: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of `tone`: x = ((1 + k)^y - 1) / k."""
    return np.expm1(rendered * np.log1p(TONE_STEEPNESS)) / TONE_STEEPNESS


def _correlate(noise_hwc: NDArray[np.float64], gain: CameraGain) -> NDArray[np.float64]:
    """Blur each channel's noise as demosaicing does, at unchanged variance for white input."""
    channels = []
    for channel, sigma in zip(range(3), (gain.blur_rb, gain.blur_g, gain.blur_rb), strict=True):
        kernel = cv2.getGaussianKernel(7, sigma, cv2.CV_64F)
        kernel = kernel / np.linalg.norm(kernel)
        plane = np.ascontiguousarray(noise_hwc[..., channel])
        channels.append(cv2.sepFilter2D(plane, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101))
    return np.stack(channels, axis=-1)


def camera_noise(
    pixels_hwc: NDArray[np.uint8], generator: np.random.Generator, gain: CameraGain | None = None
) -> NDArray[np.uint8]:
    """Add the noise a small camera would have added; the same generator state gives the same bytes.

    x = linearise(pixels / 255); photons p ~ Poisson(x / a); n = a p - x + b e, e ~ N(0, 1); n is blurred
    a little per channel at unchanged variance (red and blue more than green, as a Bayer sensor has fewer
    of them) and amplified per channel; the result is tone(x + n), rounded to 8 bits. a and b follow from
    the gain, drawn per image by `draw_gain` unless given: the variance at mid grey x_m is v = (mid_tone /
    tone'(x_m))^2, of which b^2 = read_share v and a = (1 - read_share) v / x_m. Noise alone is added: no
    blur or colour shift of the picture, beyond the tone curve's curvature (below 1.5 grey levels at the
    strongest gain, clipping near black and white aside).

    pixels_hwc: uint8, H x W x 3. Returns the same. Raises DataError for any other kind of array. Source: the
    Poisson-Gaussian model of Foi et al., IEEE TIP 2008, in linear light; the numbers are ours.
    """
    if pixels_hwc.dtype != np.uint8 or pixels_hwc.ndim != 3 or pixels_hwc.shape[2] != 3:
        raise DataError(
            f"camera noise needs uint8 pixels H x W x 3, got {pixels_hwc.dtype} {pixels_hwc.shape}"
        )
    gain = draw_gain(generator) if gain is None else gain
    linear = linearise(pixels_hwc / 255.0)
    middle = float(linearise(np.array(0.5)))
    slope = TONE_STEEPNESS / ((1.0 + TONE_STEEPNESS * middle) * np.log1p(TONE_STEEPNESS))
    variance = (gain.mid_tone / slope) ** 2
    photon = (1.0 - gain.read_share) * variance / middle
    read = np.sqrt(gain.read_share * variance)
    noise = photon * generator.poisson(linear / photon) - linear
    noise += read * generator.standard_normal(linear.shape)
    noise = _correlate(noise, gain) * np.array([gain.gain_r, 1.0, gain.gain_b])
    return np.clip(np.rint(tone(linear + noise) * 255.0), 0, 255).astype(np.uint8)
