"""Crops: windows of one size over an image, the last ones flush with its edges."""

from __future__ import annotations

from deflow_cli.arrays import Window
from deflow_cli.errors import ConfigError


def starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows begin along one axis: every ``stride``, and one flush with the end. length >= crop."""
    assert 1 <= crop <= length
    assert stride >= 1
    regular = list(range(0, length - crop + 1, stride))
    return regular if regular[-1] + crop == length else [*regular, length - crop]


def crop_windows(height: int, width: int, crop: int, stride: int) -> list[Window]:
    """Square windows of side ``crop`` over an image that is at least as large, row by row."""
    columns = starts(width, crop, stride)
    return [Window(y, x, crop, crop) for y in starts(height, crop, stride) for x in columns]


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
