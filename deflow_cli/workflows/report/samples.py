"""Report samples: crops through a model at several temperatures, and the same for each component."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from deflow_cli.arrays import Pixels, Window
from deflow_cli.data.images.files import to_pixels, to_tensor
from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.flow.compression import SampleCompression
from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job, draw_components
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.models.deflow.shift import ShiftDistribution


@dataclass(frozen=True)
class SampleDraw:
    """One sample to draw: its temperature, its number (the noise), and its component; None: drawn."""

    temperature: float
    number: int = 0
    component: int | None = None


class Sampler:
    """Degrades crops by a model. The noise of a draw belongs to (seed, crop's key, number) alone."""

    def __init__(
        self, translator: Translator, seed: int, compression: SampleCompression | None = None
    ) -> None:
        self.translator, self.seed, self.compression = translator, seed, compression
        self.shift = ShiftDistribution(translator.model.prior)

    def draw(self, clean: Pixels, key: str, draws: Sequence[SampleDraw]) -> list[Pixels]:
        """One picture per draw, uint8 of the crop's shape. Draws of one number share noise and component."""
        noises, components = [], []
        for one in draws:
            seed = self.seed + one.number
            drawn = draw_components(self.shift, seed, key, 1)
            noises.append(ImageNoise(seed, key))
            components.append(drawn if one.component is None else [one.component])
        job = Job(self.shift, noises, components, [one.temperature for one in draws])
        batch = to_tensor(clean).expand(len(draws), -1, -1, -1)
        result = torch.empty(batch.shape)

        def write(sample: int, window: Window, piece: Tensor) -> None:
            result[(..., *window.slices)] = piece.cpu()

        self.translator.translate(batch, job, range(1), write)
        pictures = [to_pixels(picture) for picture in result]
        if self.compression is None:
            return pictures
        return [
            self.compression.pixels(picture, Draw(self.seed + one.number, key, 0, one.temperature))
            for picture, one in zip(pictures, draws, strict=True)
        ]


def flattest_window(pixels: Pixels, side: int) -> tuple[float, tuple[slice, slice]]:
    """The window of at most ``side`` pixels where noise shows best: little structure, nothing clipped.

    Returns its structure, for comparing with others, and its rows and columns.
    """
    smooth = cv2.GaussianBlur(pixels.astype(np.float32).mean(axis=2), (0, 0), 4.0)
    slope = np.hypot(*np.gradient(smooth)) if min(smooth.shape) > 1 else np.zeros_like(smooth)
    # near black or white the noise is cut off, and an empty sky says nothing
    cost = (slope + 8.0 * ((smooth < 16) | (smooth > 240))).astype(np.float32)
    height, width = (min(side, n) for n in pixels.shape[:2])
    sums = cv2.integral(cost)
    costs = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = (int(place) for place in np.unravel_index(int(costs.argmin()), costs.shape))
    structure = float(costs[top, left]) / (height * width)
    return structure, (slice(top, top + height), slice(left, left + width))


def centre_crop(pixels: Pixels, side: int) -> Pixels:
    """The central window of at most ``side`` pixels, on the grid of 8 x 8 JPEG blocks."""
    top, left = (max(0, n - side) // 16 * 8 for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])
