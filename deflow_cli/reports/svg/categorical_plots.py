"""Categorical plots: one named row for each group on a common scale, as dots or as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deflow_cli.errors import ShapeError
from deflow_cli.reports.svg.canvas import (
    LINE,
    Canvas,
    finite,
    fitted_range,
    no_data,
    printable,
    set_scale,
    short_number,
    shortened,
    wrapped,
)
from deflow_cli.reports.svg.palette import INK, MUTED, series_colour

MOST_DOTS = 600
ROW_HEIGHT = 54  # height of a row
AXIS_HEIGHT = 60  # of ticks and label below the rows
Interval = tuple[float, float]


def strip_plot(
    groups: Sequence[tuple[str, Sequence[float] | np.ndarray]],
    *,
    x_label: str,
    title: str = "",
    intervals: Sequence[Interval | None] | None = None,
) -> str:
    """A row of dots for each group, with its median and the 95 % interval of its mean: an ``<svg>``.

    intervals: of the mean of each group; without one only dots and median are drawn. Values that are not
    finite are left out and counted beside the name. Raises ShapeError where groups and intervals differ in
    number.
    """
    if intervals is not None and len(intervals) != len(groups):
        raise ShapeError(f"{len(intervals)} intervals for {len(groups)} groups")
    bars = list(intervals) if intervals is not None else [None] * len(groups)
    values = [finite(found) for _, found in groups]
    limits = fitted_range([v for found in [*values, *(bar for bar in bars if bar)] for v in found], None)
    if limits is None or not any(values):
        return no_data(title, x_label)
    with Canvas(ROW_HEIGHT * len(groups) + AXIS_HEIGHT + LINE, title) as canvas:
        for index, ((name, given), found, bar) in enumerate(zip(groups, values, bars, strict=True)):
            count = f"n = {len(found)}" + (f" of {len(given)}" if len(found) < len(given) else "")
            _name_row(canvas, index, name, count)
            if found:
                _strip(canvas, index, found, bar)
        key = [
            canvas.axes.plot([], [], "|", color=INK, markersize=14, markeredgewidth=2, label="median")[0],
            canvas.axes.plot([], [], color=INK, linewidth=4, label="95 % confidence interval of the mean")[0],
        ]
        canvas.legend(key, columns=2)
        _finish(canvas, len(groups), limits, x_label)
        description = "; ".join(
            f"{name}: {_summary(found)}" for (name, _), found in zip(groups, values, strict=True)
        )
        return canvas.svg(canvas.title or x_label, description)


def bar_plot(
    bars: Sequence[tuple[str, float | None, float | None, float | None]], *, x_label: str, title: str = ""
) -> str:
    """A horizontal bar from zero for each (name, value, low, high), low and high as a whisker: an ``<svg>``.

    None or NaN as low or high leaves the whisker out; a value that is not finite is stated in words.
    """
    rows = [(name, _real(value), _real(low), _real(high)) for name, value, low, high in bars]
    if not finite(row[1] for row in rows):
        return no_data(title, x_label)
    found = [*finite(value for row in rows for value in row[1:]), 0.0]
    room = 0.04 * (max(found) - min(found)) or 0.5
    limits = (min(found) - (room if min(found) < 0 else 0.0), max(found) + room)
    with Canvas(ROW_HEIGHT * len(rows) + AXIS_HEIGHT, title) as canvas:
        for index, (name, value, low, high) in enumerate(rows):
            words = short_number(value)
            if math.isfinite(low) and math.isfinite(high):
                words += f" [{short_number(low)}, {short_number(high)}]"
            _name_row(canvas, index, name, words)
            if finite((value,)):
                canvas.axes.barh(index + 0.7, value, height=0.3, color=series_colour(0), alpha=0.8)
            if len(finite((low, high))) == 2:
                canvas.axes.plot([low, high], [index + 0.7] * 2, "|-", color=INK, linewidth=2, markersize=10)
        canvas.axes.axvline(0.0, color=INK, linewidth=1)
        _finish(canvas, len(rows), limits, x_label)
        description = "; ".join(f"{row[0]}: {short_number(row[1])}" for row in rows)
        return canvas.svg(canvas.title or x_label, description)


def _real(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _name_row(canvas: Canvas, index: int, name: str, figures: str) -> None:
    """The name above its row, where a phone has room for it, and figures at the right."""
    place, height = canvas.axes.get_yaxis_transform(), index + 0.25
    canvas.axes.text(0.0, height, shortened(name, 50 - len(figures)), ha="left", va="center", transform=place)
    canvas.axes.text(1.0, height, figures, ha="right", va="center", color=MUTED, transform=place)


def _strip(canvas: Canvas, index: int, values: list[float], bar: Interval | None) -> None:
    """Dots, median and interval of one group."""
    shown = values
    if len(values) > MOST_DOTS:
        ranks = np.linspace(0, len(values) - 1, MOST_DOTS).round().astype(int)
        shown = [sorted(values)[rank] for rank in ranks]
    # Jitter by the golden ratio is even, and the same in every run.
    heights = [index + 0.7 + 0.15 * (2 * (k * 0.6180339887 % 1) - 1) for k in range(len(shown))]
    opacity = 0.75 if len(shown) < 60 else 0.45
    colour = series_colour(index)
    canvas.axes.plot(shown, heights, "o", markersize=5.2, markeredgewidth=0, color=colour, alpha=opacity)
    median = float(np.median(values))
    canvas.axes.plot([median, median], [index + 0.48, index + 0.92], color=INK, linewidth=2)
    if bar is not None and len(finite(bar)) == 2:
        canvas.axes.plot(bar, [index + 0.7] * 2, color=INK, linewidth=5, alpha=0.75, solid_capstyle="butt")


def _finish(canvas: Canvas, rows: int, limits: Interval, x_label: str) -> None:
    canvas.axes.set_ylim(rows, 0)
    canvas.axes.set_yticks([])
    canvas.axes.spines["left"].set_visible(False)
    set_scale(canvas.axes, "x", limits, False)
    canvas.axes.set_xlabel(wrapped(x_label))


def _summary(values: Sequence[float]) -> str:
    if not values:
        return "no data"
    median, mean = short_number(float(np.median(values))), short_number(float(np.mean(values)))
    low, high = short_number(min(values)), short_number(max(values))
    return printable(f"median {median}, mean {mean}, from {low} to {high}")
