"""Rivals: degraders without a network, white noise and noise of the folders' spectrum difference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.errors import DataError, ShapeError

PATCH = 64


class Degrader(Protocol):
    """Anything that degrades pictures."""

    def degrade(self, image_bchw: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade B x 3 x H x W in [0, 1]; the same shape, in [0, 1]. All randomness is the generator's."""
        ...


@dataclass(frozen=True)
class WhiteNoise:
    """White Gaussian noise of one std on the [0, 1] scale, independent per pixel and channel."""

    sigma: float

    def degrade(self, image_bchw: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(
            image_bchw.shape, generator=generator, device=image_bchw.device, dtype=image_bchw.dtype
        )
        return (image_bchw + self.sigma * noise).clamp(0, 1)


@dataclass(frozen=True)
class SpectralNoise:
    """Gaussian noise of a given spectrum, with the channels' covariance at each frequency.

    ``filter_cctt``: 3 x 3 x 64 x 64 real kernel (out, in, y, x), centred at index 32. Noise is white
    noise under this filter, so it is stationary over any size of picture and has no seams.
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
        """Estimate from two unpaired sets of H x W x 3 pictures: what ``noisy`` has more of than ``clean``.

        D(f) = S_noisy(f) - c S_clean(f), S the mean 3 x 3 cross-spectral matrix of 64 x 64 patches (Hann
        window, each patch's mean removed, every picture weighing the same); negative eigenvalues of D(f)
        become zero, and the filter's response is the Hermitian square root. c is 1, the plain difference.

        Two unpaired sets never show the same scenes, and the difference of their contents swamps noise at low
        frequencies. ``quiet`` below 1 keeps that share of each picture's patches, those of least variance.
        ``match_content`` sets c to the ratio of powers at |f| <= 2.5 / 64, where content outweighs noise.

        Raises DataError if a set has no picture of 64 x 64.
        """
        noisy_spectrum = mean_spectrum(noisy, quiet, "noisy")
        clean_spectrum = mean_spectrum(clean, quiet, "clean")
        ratio = 1.0
        if match_content:
            frequency = np.fft.fftfreq(PATCH)
            radius = np.hypot(frequency[:, None], frequency[None])
            low = (radius > 0) & (radius <= 2.5 / PATCH)
            power = [np.einsum("naa->", s[low]).real for s in (noisy_spectrum, clean_spectrum)]
            ratio = float(power[0] / max(power[1], 1e-30))
        return cls.from_spectrum(noisy_spectrum - ratio * clean_spectrum)

    @classmethod
    def from_spectrum(cls, spectrum: NDArray[np.complex128]) -> SpectralNoise:
        """From Hermitian matrices 64 x 64 x 3 x 3 in FFT order; v times identity is white of variance v."""
        values, vectors = np.linalg.eigh(spectrum)
        root = np.einsum("yxab,yxb,yxcb->yxac", vectors, np.sqrt(np.maximum(values, 0.0)), vectors.conj())
        kernel = np.fft.ifft2(root, axes=(0, 1)).real
        kernel = np.fft.fftshift(kernel, axes=(0, 1)).transpose(2, 3, 0, 1)
        return cls(torch.from_numpy(np.ascontiguousarray(kernel)))

    def sample(self, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
        """Noise B x 3 x H x W (shape is B, H, W), float64, on the generator's device."""
        batch, height, width = shape
        padded = (height + PATCH - 1, width + PATCH - 1)
        device = generator.device
        white = torch.randn((batch, 3, *padded), generator=generator, device=device, dtype=torch.float64)
        response = torch.fft.rfft2(self.filter_cctt.to(device), s=padded)
        filtered = torch.einsum("oiyx,biyx->boyx", response, torch.fft.rfft2(white))
        # circular convolution is exact where the kernel does not wrap: from its last tap on
        return torch.fft.irfft2(filtered, s=padded)[..., PATCH - 1 :, PATCH - 1 :]

    def degrade(self, image_bchw: Tensor, generator: torch.Generator) -> Tensor:
        if image_bchw.ndim != 4 or image_bchw.shape[1] != 3:
            raise ShapeError(f"spectral noise needs B x 3 x H x W, got {tuple(image_bchw.shape)}")
        batch, _, height, width = image_bchw.shape
        noise = self.sample((batch, height, width), generator)
        return (image_bchw + noise.to(image_bchw)).clamp(0, 1)


def mean_spectrum(
    images: Iterable[NDArray[np.uint8]], quiet: float = 1.0, name: str = "images"
) -> NDArray[np.complex128]:
    """Mean cross-spectral matrix, 64 x 64 x 3 x 3 in FFT order, of pictures H x W x 3 uint8 taken as [0, 1].

    Patches of 64 x 64 every 32 pixels under a Hann window, each one's (windowed) mean removed, |FFT|^2
    over the window's energy; of each picture's patches the share ``quiet`` of least energy counts. Pictures
    below 64 x 64 are passed over; raises DataError if none is left.
    """
    window = np.outer(np.hanning(PATCH + 1)[:-1], np.hanning(PATCH + 1)[:-1])
    total, count = np.zeros((PATCH, PATCH, 3, 3), dtype=np.complex128), 0
    for image in images:
        if image.shape[0] < PATCH or image.shape[1] < PATCH:
            continue
        # patches stay views of 8-bit pixels until their turn, to bound memory
        views = np.lib.stride_tricks.sliding_window_view(image, (PATCH, PATCH), axis=(0, 1))
        views = views[:: PATCH // 2, :: PATCH // 2]
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
        raise DataError(f"the {name} set has no picture of at least {PATCH}x{PATCH} px")
    return total / count


def _windowed(patch_chw: NDArray[np.uint8], window: NDArray[np.float64]) -> NDArray[np.float64]:
    pixels = patch_chw / 255.0
    mean = np.einsum("cyx,yx->c", pixels, window) / window.sum()
    return (pixels - mean[:, None, None]) * window
