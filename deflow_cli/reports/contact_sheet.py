"""Contact sheet: labelled rows of pictures, and residuals made visible."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deflow_cli.arrays import Pixels
from deflow_cli.errors import DataError, ShapeError

GAP = 4
BACKGROUND = 255
LABEL_INK = (0, 0, 0)
FONT_SIZE = 12
LONGEST_ROW_LABEL = 240  # px


@cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which Matplotlib brings: names in Latin, Greek, Cyrillic, Arabic and more."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", FONT_SIZE)


def _rgb(pixels: Pixels) -> Pixels:
    """H x W, H x W x 1, x 3 or x 4 (alpha dropped) as H x W x 3."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise ShapeError(f"a contact sheet needs uint8 pictures H x W x C, got {pixels.dtype} {pixels.shape}")
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] < 3 else pixels[..., :3]


def residual_view(residual_hwc: NDArray[np.floating[Any]], gain: float = 8.0) -> Pixels:
    """A residual on the [0, 1] scale made visible: 128 plus ``gain`` times it, uint8 H x W x 3."""
    view = np.asarray(residual_hwc, dtype=np.float64) * 255.0 * gain + 128.0
    return _rgb(np.clip(np.rint(view), 0, 255).astype(np.uint8))


def side_by_side(pictures: Sequence[Pixels], gap: int = GAP) -> Pixels:
    """Pictures in one row, top aligned on white, ``gap`` pixels between: uint8 H x W x 3."""
    if not pictures:
        raise DataError("no picture to set side by side")
    pictures = [_rgb(picture) for picture in pictures]
    height = max(picture.shape[0] for picture in pictures)
    width = sum(picture.shape[1] for picture in pictures) + gap * (len(pictures) - 1)
    row = np.full((height, width, 3), BACKGROUND, dtype=np.uint8)
    left = 0
    for picture in pictures:
        row[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + gap
    return row


def _fit_text(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, cut with an ellipsis to ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def contact_sheet(
    rows: Sequence[Sequence[Pixels]],
    column_labels: Sequence[str],
    row_labels: Sequence[str] | None = None,
    scale: int = 1,
) -> Pixels:
    """Lay pictures out in a labelled grid on white: uint8 H x W x 3.

    rows: uint8 pictures H x W (x 1, 3 or 4), as many in each row as there are ``column_labels``; a column
    is as wide as its widest picture, a row as high as its highest. ``row_labels`` stand left of the rows.
    ``scale``: whole factor that enlarges pixels without smoothing. Labels are cut to their column, those of
    rows to 240 pixels. Raises
    DataError for an empty or ragged grid, ShapeError for other arrays.
    """
    if not rows or not column_labels:
        raise DataError("a contact sheet needs at least one row and one column")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(column_labels):
            raise DataError(f"row {number} has {len(row)} pictures for {len(column_labels)} column labels")
    if row_labels is not None and len(row_labels) != len(rows):
        raise DataError(f"{len(row_labels)} row labels for {len(rows)} rows")
    grid = [[_rgb(p).repeat(scale, axis=0).repeat(scale, axis=1) for p in row] for row in rows]
    font = _font()
    row_labels = [_fit_text(label, LONGEST_ROW_LABEL, font) for label in row_labels or ()]
    widths = [max(row[c].shape[1] for row in grid) for c in range(len(column_labels))]
    heights = [max(picture.shape[0] for picture in row) for row in grid]
    margin = GAP + (max(int(font.getlength(label)) for label in row_labels) + GAP if row_labels else 0)
    head = FONT_SIZE + 2 * GAP
    size = (margin + sum(widths) + GAP * len(widths), head + sum(heights) + GAP * len(heights))
    sheet = Image.new("RGB", size, (BACKGROUND,) * 3)
    draw = ImageDraw.Draw(sheet)
    left = margin
    for label, width in zip(column_labels, widths, strict=True):
        draw.text((left, GAP), _fit_text(label, width, font), fill=LABEL_INK, font=font)
        left += width + GAP
    top = head
    for number, (row, height) in enumerate(zip(grid, heights, strict=True)):
        if row_labels:
            draw.text((GAP, top + (height - FONT_SIZE) // 2), row_labels[number], fill=LABEL_INK, font=font)
        left = margin
        for picture, width in zip(row, widths, strict=True):
            sheet.paste(Image.fromarray(picture), (left, top))
            left += width + GAP
        top += height + GAP
    return np.asarray(sheet)
