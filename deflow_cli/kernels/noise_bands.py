"""Bands of noise: how the endless plane is cut into counters, alike for the reference and its Triton twin."""

from __future__ import annotations

from typing import Literal, NamedTuple

NoiseKind = Literal["normal", "uniform"]

NUMBERS_PER_BLOCK = 8  # 32-bit words of one counter of Philox4x64
BAND = 4  # rows; fewer would seek the generator more often, more would waste numbers above and below a place


class Place(NamedTuple):
    """A rectangle of the plane, in positions."""

    top: int
    left: int
    height: int
    width: int


def blocks_of_band(channels: int, place: Place) -> tuple[int, int, int]:
    """The blocks that hold a place's columns in a band: first, count, numbers before those of the place."""
    column = BAND * channels
    first, end = place.left * column, (place.left + place.width) * column
    block = first // NUMBERS_PER_BLOCK
    return block, -(-end // NUMBERS_PER_BLOCK) - block, first - block * NUMBERS_PER_BLOCK
