"""Crops: windows of one size over an image, the last ones flush with its edges."""

from __future__ import annotations

from dataclasses import dataclass

from deflow_cli.errors import ConfigError


@dataclass(frozen=True)
class CropBox:
    """A rectangle of an image, in pixels from its upper left corner."""

    top: int
    left: int
    height: int
    width: int

    def divided(self, factor: int) -> CropBox:
        """The same rectangle at 1 / factor of the resolution; its sides are multiples."""
        sides = (self.top, self.left, self.height, self.width)
        assert not any(side % factor for side in sides), f"{sides} at 1/{factor}"
        return CropBox(*(side // factor for side in sides))

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of this rectangle."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows begin along one axis: every ``stride``, and one flush with the end. length >= crop."""
    assert 1 <= crop <= length
    assert stride >= 1
    regular = list(range(0, length - crop + 1, stride))
    return regular if regular[-1] + crop == length else [*regular, length - crop]


def crop_boxes(height: int, width: int, crop: int, stride: int) -> list[CropBox]:
    """Square windows of side ``crop`` over an image that is at least as large, row by row."""
    columns = starts(width, crop, stride)
    return [CropBox(y, x, crop, crop) for y in starts(height, crop, stride) for x in columns]


def check_crop(crop: int, stride: int, scale: int) -> None:
    """Raise ConfigError unless windows of the large image are windows of the small one too."""
    for name, value in (("crop", crop), ("stride", stride)):
        if value < 1 or value % scale:
            fitting = max(scale, value // scale * scale)
            raise ConfigError(
                f"{name} {value} is no multiple of the scale {scale}", next_step=f"use --{name} {fitting}"
            )
    if stride > crop:
        raise ConfigError(
            f"stride {stride} is larger than the crop {crop}: pixels in between would be lost",
            next_step=f"use --stride {crop} or less",
        )
