"""Job: what is done to a batch of images, and the components that their samples have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deflow_cli.inference.positional_noise import stable_generator
from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.models.deflow.model import CLEAN, DEGRADED
from deflow_cli.models.deflow.shift import ShiftDistribution


@dataclass(frozen=True)
class Job:
    """What is done to a batch of images of one size.

    noises: per image. components: per image, the component of each sample. temperatures: per image.
    reverse: degraded to clean. gray_levels: the step of dequantisation is 1 / this (255 or 65535).
    """

    shift: ShiftDistribution
    noises: Sequence[ImageNoise]
    components: Sequence[Sequence[int]]
    temperatures: Sequence[float]
    reverse: bool = False
    gray_levels: int = 255

    @property
    def domain(self) -> int:
        """The domain the images come from."""
        return DEGRADED if self.reverse else CLEAN


def draw_components(shift: ShiftDistribution, seed: int, key: str, samples: int) -> list[int]:
    """The component of each sample of an image, drawn by (seed, key, sample)."""
    drawn = [stable_generator(seed, key, "component", sample).random() for sample in range(samples)]
    return shift.components_at(drawn)
