"""Heatmap: a matrix as colours around zero, with the bar that explains them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deflow_cli.errors import ShapeError
from deflow_cli.reports.pages.pictures import data_uri
from deflow_cli.reports.svg.axes import (
    FONT,
    LINE,
    WIDTH,
    Scale,
    document,
    fitted_range,
    headline,
    no_data,
    short_number,
    text,
    text_width,
    usable,
)
from deflow_cli.reports.svg.markup import element, escaped
from deflow_cli.reports.svg.palette import MUTED, VOID, diverging, hex_colour, ink_on

# Beyond this many cells a picture takes the place of one rectangle and tooltip each.
MOST_CELLS = 1024
SIDE = 360.0


def heatmap(
    values_2d: np.ndarray | Sequence[Sequence[float]],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    limits: tuple[float, float] | None = None,
    cells: bool = False,
    x_ticks: Sequence[str] | None = None,
    y_ticks: Sequence[str] | None = None,
) -> str:
    """A matrix (rows downwards) in a diverging palette, neutral at zero, with a colour bar: an ``<svg>``.

    limits: the values at the bar's ends (default: symmetric, the largest magnitude). cells: print the values
    in the cells. x_ticks, y_ticks: a name per column and row, for the axes and the tooltips. Values that are
    not finite are grey. Raises ShapeError for anything but a matrix and as many ticks as columns and rows.
    """
    values = np.asarray(values_2d, dtype=np.float64)
    if values.size == 0:
        return no_data(title, x_label)
    if values.ndim != 2:
        raise ShapeError(f"a heatmap needs a matrix, got the shape {values.shape}")
    for ticks, count, name in ((x_ticks, values.shape[1], "columns"), (y_ticks, values.shape[0], "rows")):
        if ticks is not None and len(ticks) != count:
            raise ShapeError(f"{len(ticks)} ticks for {count} {name}")
    low, high = _limits(values, limits)
    if math.isnan(low):
        return no_data(title, x_label)
    parts, top = headline(title, y_label)
    top += 6
    left = 8 + max((text_width(tick) + 6 for tick in y_ticks or ()), default=0.0)
    side = min(SIDE, WIDTH - left - 76) / max(values.shape)
    width, height = side * values.shape[1], side * values.shape[0]
    largest = max(abs(low), abs(high))
    if values.size > MOST_CELLS:
        parts.append(_picture(values, largest, left, top, side))
    else:
        parts.append(_cells(values, largest, (left, top, side), cells, (x_ticks, y_ticks)))
    bottom = top + height
    for k, tick in _thinned(y_ticks, side, LINE):
        parts.append(text(left - 6, top + (k + 0.5) * side + 5, tick, "end"))
    widest = max((text_width(tick) for tick in x_ticks or ()), default=0.0)
    for k, tick in _thinned(x_ticks, side, widest + 6):
        parts.append(text(left + (k + 0.5) * side, bottom + LINE - 2, tick, "middle"))
    bottom += LINE if x_ticks else 0
    if x_label:
        bottom += LINE
        at = max(left + width / 2, 4 + text_width(x_label) / 2)
        parts.append(text(at, bottom, x_label, "middle", style=f"fill:{MUTED}"))
    parts.append(_bar(low, high, left + width + 14, top, max(height, 100.0)))
    bottom = max(bottom + 6, top + max(height, 100.0) + 10)
    rows, columns = values.shape
    told = f"{rows} rows by {columns} columns, colours from {short_number(low)} to {short_number(high)}"
    return document(parts, bottom, title or y_label or x_label or "heatmap", told)


def _limits(values: np.ndarray, given: tuple[float, float] | None) -> tuple[float, float]:
    """The values at the ends of the bar; NaN without a finite value."""
    found = usable(values.ravel().tolist())
    if not found:
        return math.nan, math.nan
    largest = max(abs(v) for v in found) or 1.0
    return fitted_range((), given, False) or (-largest, largest)


def _thinned(ticks: Sequence[str] | None, side: float, room: float) -> list[tuple[int, str]]:
    """Every n-th tick, such that each has room."""
    stride = max(1, math.ceil(room / side))
    return [(k, tick) for k, tick in enumerate(ticks or ()) if k % stride == 0]


def _cells(
    values: np.ndarray,
    largest: float,
    place: tuple[float, float, float],
    printed: bool,
    ticks: tuple[Sequence[str] | None, Sequence[str] | None],
) -> str:
    """A rectangle per value, with the value as its tooltip."""
    left, top, side = place
    parts: list[str] = []
    widest = max((text_width(_cell_text(float(v)), 1.0) for v in values.ravel()), default=1.0)
    size = min(FONT, side * 0.85 / widest)
    for (row, column), value in np.ndenumerate(values):
        x, y = left + column * side, top + row * side
        rgb = diverging(float(value) / largest) if math.isfinite(value) else VOID
        x_name = ticks[0][column] if ticks[0] else str(column)
        y_name = ticks[1][row] if ticks[1] else str(row)
        words = element("title", escaped(f"({x_name}, {y_name}): {short_number(float(value))}"))
        # A hair wider than the cell: no seams between neighbours.
        edge = side + 0.3
        style = f"fill:{hex_colour(rgb)}"
        parts.append(element("rect", words, x=x, y=y, width=edge, height=edge, style=style))
        if printed:
            style = f"fill:{ink_on(rgb)};font-size:{size:.3g}px;pointer-events:none"
            label = _cell_text(float(value))
            parts.append(text(x + side / 2, y + side / 2 + size * 0.36, label, "middle", style=style))
    return "".join(parts)


def _cell_text(value: float) -> str:
    if not math.isfinite(value):
        return short_number(value)
    if abs(value) >= 9.995:
        return f"{value:.3g}".replace("-", "−")
    # Without the leading zero, as correlations are printed: nine columns must stay legible on a phone.
    sign, figures = ("−" if round(value, 2) < 0 else ""), f"{abs(value):.2f}"
    return sign + figures.removeprefix("0")


def _picture(values: np.ndarray, largest: float, left: float, top: float, side: float) -> str:
    """The matrix as an embedded picture, a pixel per value."""
    pixels = np.full((*values.shape, 3), VOID, dtype=np.uint8)
    for (row, column), value in np.ndenumerate(values):
        if math.isfinite(value):
            pixels[row, column] = diverging(float(value) / largest)
    return element(
        "image",
        href=data_uri(pixels),
        x=left,
        y=top,
        width=side * values.shape[1],
        height=side * values.shape[0],
        preserveAspectRatio="none",
        style="image-rendering:pixelated",
    )


def _bar(low: float, high: float, left: float, top: float, height: float) -> str:
    """The colour bar from high (above) to low, with its ticks."""
    scale = Scale(low, high, top + height, top)
    largest, strips = max(abs(low), abs(high)), 64
    parts = []
    for k in range(strips):
        value = low + (k + 0.5) / strips * (high - low)
        y = scale(low + (k + 1) / strips * (high - low))
        style = f"fill:{hex_colour(diverging(value / largest))}"
        parts.append(element("rect", x=left, y=y, width=12.0, height=height / strips + 0.3, style=style))
    parts += [text(left + 16, scale(v) + 5, label) for v, label in scale.ticks(4)]
    return "".join(parts)
