"""The blur of a picture from its power spectrum: how it falls beyond the power law of sharp pictures.

The spectrum of a natural scene falls as a power of the frequency, S(f) = A(angle) |f|^-a, with a near 2
(Field 1987; Ruderman 1994). A Gaussian blur of covariance C multiplies it by exp(-(2 pi)^2 f' C f), and noise
adds a floor N:

    log S(f) = log(sum over g of A(angle) |g|^-a(angle) exp(-(2 pi)^2 g' C g) + N)

g is f and the three frequencies that down-sampling folds onto it first. A and a follow the angle by a few
harmonics. Low frequencies settle the law, high ones the blur and the noise. Unlike the comparison of a
picture with itself at half the size, on which KernelGAN rests, this does not take the blur of the picture for
a part of the scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from deflow_cli.arrays import Array, Pixels
from deflow_cli.errors import DataError

_WINDOW = 32  # px, side of the windows whose spectra are averaged
_STEP = 8  # px from window to window
_BAND = (0.04, 0.45)  # cycles per pixel that are used
_CONTENT = (0.05, 0.2)  # cycles per pixel by whose power windows are ranked
_LUMA = np.array([0.299, 0.587, 0.114])
_EXPONENT = 2.2  # of the power law, where the picture says nothing
_EXPONENT_WEIGHT = 1.0
_EXPONENT_SWING_WEIGHT = 2.0
_SOFT = 0.5  # nepers, beyond which a frequency's misfit counts linearly
_LEAST_POWER = 1e-7  # of the content band; a flat picture with rounding noise has less
_ROUNDING = 1 / 255**2 / 12  # variance of rounding to 8 bits


@dataclass(frozen=True)
class SpectralBlur:
    """A picture's blur. covariance: 2 x 2 in px^2 of the picture, y and x. exponent: of the power law.

    noise: standard deviation of the white floor on the scale 0 to 1. misfit: root mean square of what the
    model leaves of the log spectrum, in nepers.
    """

    covariance: Array
    exponent: float
    noise: float
    misfit: float


def luma_spectrum(pixels_hwc: Pixels) -> Array:
    """Mean power of the luma per pixel in Hann windows, _WINDOW x _WINDOW, of the half with the most content.

    Raises DataError for a picture smaller than a window, and for a flat one.
    """
    height, width = pixels_hwc.shape[:2]
    if min(height, width) < _WINDOW:
        raise DataError(f"{width}x{height} is smaller than {_WINDOW} px")
    luma = pixels_hwc.astype(np.float64) / 255 @ _LUMA
    windows = np.lib.stride_tricks.sliding_window_view(luma, (_WINDOW, _WINDOW))[::_STEP, ::_STEP]
    taper = np.outer(*[np.hanning(_WINDOW + 2)[1:-1]] * 2)
    taper /= np.sqrt((taper**2).sum())
    radius = np.hypot(*_frequencies())
    content = (radius > _CONTENT[0]) & (radius < _CONTENT[1])
    flat = windows.reshape(-1, _WINDOW, _WINDOW)
    means = (flat * taper).sum(axis=(1, 2), keepdims=True) / taper.sum()
    power = np.abs(np.fft.fft2((flat - means) * taper)) ** 2
    strength = power[:, content].mean(1)
    spectrum = power[strength >= np.median(strength)].mean(0)
    if spectrum[content].mean() < _LEAST_POWER:
        raise DataError("a flat picture: it has no detail to see a blur by")
    return np.asarray(spectrum)


def _frequencies() -> tuple[Array, Array]:
    cycles = np.fft.fftfreq(_WINDOW)
    y, x = np.meshgrid(cycles, cycles, indexing="ij")
    return y, x


class _Model:
    """The log spectrum at the used frequencies, as a function of the parameters.

    Parameters: five harmonics of log A; a and its two second harmonics; the lower triangle of a root of C, in
    px; log N.
    """

    def __init__(self, spectrum: Array) -> None:
        y, x = _frequencies()
        radius = np.hypot(y, x)
        half = (y > 0) | ((y == 0) & (x > 0))  # the spectrum of a real picture is symmetric
        used = half & (radius > _BAND[0]) & (np.abs(y) < _BAND[1]) & (np.abs(x) < _BAND[1])
        self.seen = np.log(spectrum[used])
        self.weight = 1 / np.sqrt(radius[used])  # rings have more frequencies the wider they are
        # What sampling folds onto each frequency, one row for each: itself, and those beyond the edges.
        whole_y, whole_x = np.sign(y[used] + 1e-9), np.sign(x[used] + 1e-9)
        self.y = np.stack([y[used] - turn * whole_y for turn in (0, 0, 1, 1)])
        self.x = np.stack([x[used] - turn * whole_x for turn in (0, 1, 0, 1)])
        angle = np.arctan2(self.y, self.x)
        second = [np.cos(2 * angle), np.sin(2 * angle)]
        self.harmonics = np.stack([np.ones_like(angle), *second, np.cos(4 * angle), np.sin(4 * angle)])
        self.log_radius = np.log(np.hypot(self.y, self.x))

    def log_spectrum(self, parameters: Array) -> Array:
        level = np.tensordot(parameters[:5], self.harmonics, 1)
        scene = level - np.tensordot(parameters[5:8], self.harmonics[:3], 1) * self.log_radius
        first, slant, second = parameters[8:11]
        exponent = (first * self.y + slant * self.x) ** 2 + (second * self.x) ** 2
        folded = np.logaddexp.reduce(scene - (2 * np.pi) ** 2 * exponent, axis=0)
        return np.asarray(np.logaddexp(folded, parameters[11]))

    def residuals(self, parameters: Array) -> Array:
        """Misfits, and pulls of the exponent towards what is usual, each like all frequencies together."""
        misfit = (self.log_spectrum(parameters) - self.seen) * self.weight
        pulls = np.array([_EXPONENT_WEIGHT, _EXPONENT_SWING_WEIGHT, _EXPONENT_SWING_WEIGHT])
        pulls *= np.sqrt(len(misfit)) * (parameters[5:8] - [_EXPONENT, 0, 0])
        return np.concatenate([misfit, pulls])


def blur_from_spectrum(pixels_hwc: Pixels) -> SpectralBlur:
    """The Gaussian blur that a picture's mean spectrum shows. Raises DataError as ``luma_spectrum`` does."""
    model = _Model(luma_spectrum(pixels_hwc))
    start = np.zeros(12)
    start[0], start[5] = model.seen.mean() - 2 * _EXPONENT, _EXPONENT
    start[8] = start[10] = 0.6
    start[11] = np.log(_ROUNDING)
    fitted = least_squares(model.residuals, start, loss="soft_l1", f_scale=_SOFT).x
    first, slant, second = fitted[8:11]
    covariance = np.array([[first**2, first * slant], [first * slant, slant**2 + second**2]])
    misfit = float(np.sqrt(np.mean((model.log_spectrum(fitted) - model.seen) ** 2)))
    return SpectralBlur(covariance, float(fitted[5]), float(np.exp(fitted[11] / 2)), misfit)
