"""Stationary Gaussian noise of a given spectrum, estimated from a clean and a noisy folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.degraders.base import Draw, add_noise, check_draws
from deflow_cli.errors import DataError
from deflow_cli.inference.positional_noise import PositionalNoise
from deflow_cli.models.deflow.grain import correlated

SPECTRUM_SIDE = 64  # px; side of the patches whose spectra are averaged, and of the filter


@dataclass(frozen=True)
class SpectralNoise:
    """Gaussian noise of a given spectrum, with the channels' covariance at each frequency.

    filter_cctt: real kernel 3 x 3 x 64 x 64 (out, in, y, x), centred at index 32. The noise is white noise
    under this filter, so that it is stationary over a picture of any size and has no seams.
    """

    filter_cctt: Tensor

    @classmethod
    def from_images(
        cls,
        clean: Iterable[NDArray[np.uint8]],
        noisy: Iterable[NDArray[np.uint8]],
        quiet: float = 1.0,
        match_content: bool = False,
    ) -> SpectralNoise:
        """Estimate the spectrum that ``noisy`` has in excess of ``clean``, from unpaired H x W x 3 pictures.

        D(f) = S_noisy(f) - c S_clean(f), where S is the mean 3 x 3 cross-spectral matrix of 64 x 64 patches
        (see ``mean_spectrum``). Negative eigenvalues of D(f) become zero, and the filter's response is the
        Hermitian square root. c is 1, the plain difference, unless ``match_content`` is set.

        Two unpaired sets never show the same scenes, and at low frequencies the difference of their contents
        outweighs the noise. Two remedies: ``quiet`` below 1 uses only that share of each picture's patches,
        those of least variance; ``match_content`` sets c to the ratio of the two powers at |f| <= 2.5 / 64,
        where content dominates.

        Raises DataError if a set has no picture of 64 x 64.
        """
        noisy_spectrum = mean_spectrum(noisy, quiet, "noisy")
        clean_spectrum = mean_spectrum(clean, quiet, "clean")
        ratio = 1.0
        if match_content:
            frequency = np.fft.fftfreq(SPECTRUM_SIDE)
            radius = np.hypot(frequency[:, None], frequency[None])
            low = (radius > 0) & (radius <= 2.5 / SPECTRUM_SIDE)
            power = [np.einsum("naa->", s[low]).real for s in (noisy_spectrum, clean_spectrum)]
            ratio = float(power[0] / max(power[1], 1e-30))
        return cls.from_spectrum(noisy_spectrum - ratio * clean_spectrum)

    @classmethod
    def from_spectrum(cls, spectrum: NDArray[np.complex128]) -> SpectralNoise:
        """From Hermitian matrices 64 x 64 x 3 x 3 in FFT order; v times identity is white, of variance v."""
        values, vectors = np.linalg.eigh(spectrum)
        root = np.einsum("yxab,yxb,yxcb->yxac", vectors, np.sqrt(np.maximum(values, 0.0)), vectors.conj())
        kernel = np.fft.ifft2(root, axes=(0, 1)).real
        kernel = np.fft.fftshift(kernel, axes=(0, 1)).transpose(2, 3, 0, 1)
        return cls(torch.from_numpy(np.ascontiguousarray(kernel)))

    def colour(self, white: Sequence[Tensor]) -> Tensor:
        """Noise B x 3 x H x W from B pieces of white noise, each 3 x (H + 63) x (W + 63), float64."""
        return torch.cat([correlated(self.filter_cctt, piece[None]) for piece in white])


@dataclass(frozen=True)
class SpectralDegrader:
    """Adds stationary Gaussian noise of a given spectrum, times the temperature.

    >>> white = SpectralNoise.from_spectrum(np.full((64, 64, 1, 1), 0.04**2) * np.eye(3, dtype=complex))
    >>> grey = torch.full((1, 3, 100, 120), 0.5)
    >>> noisy = SpectralDegrader(white).degrade(grey, [Draw(seed=0, key="photo.png")])
    >>> round((noisy - grey).std().item(), 2)
    0.04
    """

    noise: SpectralNoise

    def degrade(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        check_draws(image_bchw, draws)
        height, width = image_bchw.shape[-2:]
        size = (height + SPECTRUM_SIDE - 1, width + SPECTRUM_SIDE - 1)
        white = [
            PositionalNoise(draw.seed, draw.key).normal(f"spectral {draw.sample}", 3, 0, 0, *size)[0].double()
            for draw in draws
        ]
        temperatures = torch.tensor([draw.temperature for draw in draws], dtype=torch.float64)
        return add_noise(image_bchw, temperatures[:, None, None, None] * self.noise.colour(white))


def mean_spectrum(
    images: Iterable[NDArray[np.uint8]], quiet: float = 1.0, name: str = "images"
) -> NDArray[np.complex128]:
    """Mean cross-spectral matrix, 64 x 64 x 3 x 3 in FFT order, of pictures H x W x 3 uint8 taken as [0, 1].

    Welch's method: patches of 64 x 64 every 32 pixels, their weighted mean removed, under a Hann window;
    |FFT|^2 over the window's energy. Of each picture's patches, the share ``quiet`` with the least energy is
    averaged, and all pictures have the same weight. name: of the set, for the error. Pictures below 64 x 64
    are skipped; raises DataError if none is left.
    """
    window = np.outer(np.hanning(SPECTRUM_SIDE + 1)[:-1], np.hanning(SPECTRUM_SIDE + 1)[:-1])
    total, count = np.zeros((SPECTRUM_SIDE, SPECTRUM_SIDE, 3, 3), dtype=np.complex128), 0
    for image in images:
        if image.shape[0] < SPECTRUM_SIDE or image.shape[1] < SPECTRUM_SIDE:
            continue
        # The patches are views of the 8-bit picture, converted one at a time, which bounds the memory.
        views = np.lib.stride_tricks.sliding_window_view(image, (SPECTRUM_SIDE, SPECTRUM_SIDE), axis=(0, 1))
        views = views[:: SPECTRUM_SIDE // 2, :: SPECTRUM_SIDE // 2]
        places = [(y, x) for y in range(views.shape[0]) for x in range(views.shape[1])]
        if quiet < 1.0:
            energies = [float(np.sum(_windowed(views[place], window) ** 2)) for place in places]
            kept = np.argsort(energies)[: max(1, round(quiet * len(places)))]
            places = [places[index] for index in kept]
        for place in places:
            spectrum = np.fft.fft2(_windowed(views[place], window))
            total += np.einsum("ayx,byx->yxab", spectrum, spectrum.conj()) / (len(places) * np.sum(window**2))
        count += 1
    if count == 0:
        raise DataError(f"the {name} set has no picture of at least {SPECTRUM_SIDE}x{SPECTRUM_SIDE} px")
    return total / count


def _windowed(patch_chw: NDArray[np.uint8], window: NDArray[np.float64]) -> NDArray[np.float64]:
    pixels = patch_chw / 255.0
    mean = np.einsum("cyx,yx->c", pixels, window) / window.sum()
    return (pixels - mean[:, None, None]) * window
