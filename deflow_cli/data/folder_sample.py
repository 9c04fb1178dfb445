"""A sample of a folder: at most 200 pictures, evenly spread over the names, and the middle of large ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Item = TypeVar("_Item")

MOST_IMAGES = 200
WINDOW_SIDE = 768  # px


def evenly_spread(items: Sequence[_Item], most: int) -> list[_Item]:
    """At most so many of the items, in their order, at even distances from the first to the last.

    >>> evenly_spread("abcdefghi", 3)
    ['a', 'e', 'i']
    """
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in np.unique(places)]


def centre(pixels: NDArray[np.uint8], side: int = WINDOW_SIDE) -> NDArray[np.uint8]:
    """The centred window of at most ``side`` pixels each way, on the grid of 8 x 8 JPEG blocks."""
    top, left = (max(0, n - side) // 16 * 8 for n in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]
