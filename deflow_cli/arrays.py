"""Arrays: the element types that functions name in their signatures, and a rectangle of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # H x W x 3 RGB, or H x W of one channel
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """A rectangle of an image, in pixels from its upper left corner.

    >>> tile = Window(top=32, left=0, height=32, width=32)
    >>> around = tile.grown(8, height=64, width=64)
    >>> around
    Window(top=24, left=0, height=40, width=40)
    >>> tile.within(around)
    (slice(8, 40, None), slice(0, 32, None))
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width

    def grown(self, by: int, height: int, width: int) -> Window:
        """Larger by so many pixels on each side, within an image of the given size."""
        top, left = max(self.top - by, 0), max(self.left - by, 0)
        bottom, right = min(self.bottom + by, height), min(self.right + by, width)
        return Window(top, left, bottom - top, right - left)

    def divided(self, factor: int) -> Window:
        """The same rectangle at 1 / factor of the resolution; its sides must be multiples of the factor."""
        sides = (self.top, self.left, self.height, self.width)
        assert not any(side % factor for side in sides), f"{sides} at 1/{factor}"
        return Window(*(side // factor for side in sides))

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of this rectangle in the whole image."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, outer: Window) -> tuple[slice, slice]:
        """Rows and columns of this rectangle in a tensor that shows ``outer``."""
        top, left = self.top - outer.top, self.left - outer.left
        return slice(top, top + self.height), slice(left, left + self.width)
