"""Diversity score: how much better the best sample of each pixel is than the best sample of the image.

The measure of the NTIRE 2021 and 2022 challenges on learning the super-resolution space (Lugmayr et al.,
CVPR Workshops 2021 and 2022). A sample's distance map D_k says how far it is from the truth at every pixel.
G = min_k mean_p D_k(p) is the distance of the best whole sample, B = mean_p min_k D_k(p) that of an image put
together from the best sample of every pixel. The score is 100 (G - B) / G: 0 for a method without variety.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from deflow_cli.errors import ShapeError

ERROR_WINDOW = 16  # side of the window of the squared error, in pixels


@dataclass(frozen=True)
class DiversityScore:
    """What the distance maps of n samples say. global_best: G. local_best: B. mean: over samples.

    >>> two = SampleDistances()
    >>> two.add(torch.tensor([[1.0, 3.0], [2.0, 2.0]]))
    >>> two.add(torch.tensor([[3.0, 1.0], [2.0, 4.0]]))
    >>> two.score()
    DiversityScore(global_best=2.0, local_best=1.5, mean=2.25, samples=2)
    >>> two.score().percent
    25.0
    """

    global_best: float
    local_best: float
    mean: float
    samples: int

    @property
    def percent(self) -> float:
        """100 (G - B) / G, between 0 and 100; 0 where the best sample is the truth itself."""
        if self.global_best <= 0:
            return 0.0
        return 100 * (self.global_best - self.local_best) / self.global_best


class SampleDistances:
    """Distance maps of samples, added one after the other; only their minimum and their means are stored."""

    def __init__(self) -> None:
        self._means: list[float] = []
        self._least_hw: Tensor | None = None
        self._scores: list[DiversityScore] = []

    def add(self, map_hw: Tensor) -> None:
        """The map of the next sample. Raises ShapeError where it has another size than the first."""
        least = self._least_hw
        if least is not None and least.shape != map_hw.shape:
            raise ShapeError(f"distance maps {tuple(least.shape)} and {tuple(map_hw.shape)} differ in size")
        least = map_hw.clone() if least is None else torch.minimum(least, map_hw)
        self._least_hw = least
        self._means.append(_mean(map_hw))
        best, count = min(self._means), len(self._means)
        self._scores.append(DiversityScore(best, _mean(least), sum(self._means) / count, count))

    @property
    def means(self) -> tuple[float, ...]:
        """The mean of every sample's map, in the order in which they were added."""
        return tuple(self._means)

    @property
    def scores(self) -> tuple[DiversityScore, ...]:
        """The score of the first sample, of the first two, and so on."""
        return tuple(self._scores)

    def score(self) -> DiversityScore:
        """The score of all samples."""
        assert self._scores, "no sample was added"
        return self._scores[-1]


def _mean(map_hw: Tensor) -> float:
    return float(map_hw.mean(dtype=torch.float64))


def windowed_squared_error(image_chw: Tensor, reference_chw: Tensor) -> Tensor:
    """Squared error averaged over channels and over 16 x 16 windows, float64 (H + 15) x (W + 15).

    The distance that the challenge of 2022 uses beside LPIPS. Pixels are on the 0..255 scale. Every window
    that overlaps the image counts (a full convolution), with zeros outside the image. Raises ShapeError for
    images of different shapes.
    """
    if image_chw.shape != reference_chw.shape or image_chw.ndim != 3:
        raise ShapeError(
            f"image {tuple(image_chw.shape)} and reference {tuple(reference_chw.shape)} must be one C x H x W"
        )
    difference = image_chw.to(torch.float64) - reference_chw.to(torch.float64)
    error_11hw = difference.square_().mean(0)[None, None]
    taps = torch.full((ERROR_WINDOW,), 1 / ERROR_WINDOW, dtype=torch.float64, device=image_chw.device)
    rows_11hw = conv2d(error_11hw, taps.view(1, 1, -1, 1), padding=(ERROR_WINDOW - 1, 0))
    return conv2d(rows_11hw, taps.view(1, 1, 1, -1), padding=(0, ERROR_WINDOW - 1))[0, 0]


def centred(map_hw: Tensor, height: int, width: int) -> Tensor:
    """The part of a windowed map that lies over the image: the window of each pixel is centred on it.

    The centre of an even window lies between two pixels; the lower right one of them is taken.
    """
    top = (ERROR_WINDOW - 1) // 2
    return map_hw[top : top + height, top : top + width]
