"""Scorer: what every image-quality metric is, so that one table can hold them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """What a metric is, told beside each of its figures.

    name: as on the command line. digits: decimals that papers print. variant: colour space, window, border
    and parameters in one line, enough to tell two variants of the same name apart.
    """

    name: str
    title: str
    higher_is_better: bool
    needs_reference: bool
    digits: int
    variant: str
    unit: str = ""


@dataclass(frozen=True)
class Score:
    """One image's value; NaN with the reason where the metric is not defined, infinite where it is."""

    value: float
    reason: str = ""


class Scorer(Protocol):
    """A metric with its parameters, on a device."""

    @property
    def metric(self) -> Metric: ...

    def __call__(self, images_bchw: Tensor, references_bchw: Tensor | None = None) -> list[Score]:
        """Score uint8 images B x 3 x H x W on the 0..255 scale, RGB; references of the same shape.

        One score per image, the same whatever else is in the batch. Raises ShapeError for other shapes.
        """
        ...
