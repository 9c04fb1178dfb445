"""Rows: one named row per group on a common scale, as dots or as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from deflow_cli.errors import ShapeError
from deflow_cli.reports.svg.axes import (
    LINE,
    WIDTH,
    Frame,
    Scale,
    document,
    fitted_range,
    headline,
    no_data,
    short_number,
    shortened,
    text,
    text_width,
    usable,
)
from deflow_cli.reports.svg.markup import element, escaped
from deflow_cli.reports.svg.palette import INK, MUTED, series_colour

MOST_DOTS = 600
Interval = tuple[float, float]


def mean_interval(values: Sequence[float]) -> Interval | None:
    """The 95 % confidence interval of the mean (Student's t); None for fewer than three values, whose
    interval says nothing."""
    found = np.asarray(usable(values))
    if found.size < 3:
        return None
    half = float(stdtrit(found.size - 1, 0.975) * found.std(ddof=1) / math.sqrt(found.size))
    return float(found.mean()) - half, float(found.mean()) + half


def strip_plot(
    groups: Sequence[tuple[str, Sequence[float] | np.ndarray]],
    *,
    x_label: str,
    title: str = "",
    intervals: Sequence[Interval | None] | None = None,
) -> str:
    """A row of dots per group, its median as a line, and the 95 % interval of its mean: an ``<svg>``.

    intervals: the mean's per group where the caller knows better (a bootstrap); computed by Student's t
    where not given. Values that are not finite are left out and counted beside the name. Raises ShapeError
    where groups and intervals differ in number.
    """
    if intervals is not None and len(intervals) != len(groups):
        raise ShapeError(f"{len(intervals)} intervals for {len(groups)} groups")
    values = [usable(map(float, found)) for _, found in groups]
    bars = list(intervals) if intervals is not None else [mean_interval(found) for found in values]
    ends = [end for bar in bars if bar for end in usable(bar)]
    limits = fitted_range([v for found in values for v in found] + ends, None, False)
    if limits is None or not any(values):
        return no_data(title, x_label)
    parts, top = headline(title)
    parts.append(_strip_key(top))
    top += LINE + 6
    row = 54.0
    frame = _frame(limits, top, row * len(groups))
    grid, bottom = frame.vertical_grid(x_label)
    parts += grid
    for index, (name, given) in enumerate(groups):
        count = f"n = {len(values[index])}"
        if len(values[index]) < len(given):
            count += f" of {len(given)}"
        parts.append(_row_name(name, count, top + row * index))
        parts.append(_strip(frame, values[index], bars[index], index, top + row * index))
    names = "; ".join(f"{name}: {_summary(found)}" for (name, _), found in zip(groups, values, strict=True))
    return document(parts, bottom, title or x_label, names)


def bar_plot(
    bars: Sequence[tuple[str, float | None, float | None, float | None]], *, x_label: str, title: str = ""
) -> str:
    """A horizontal bar from zero per (name, value, low, high), low and high as a whisker: an ``<svg>``.

    None or NaN as low or high leaves the whisker out; a value that is not finite is told in words.
    """
    rows = [(name, _real(value), _real(low), _real(high)) for name, value, low, high in bars]
    found = usable(v for row in rows for v in row[1:])
    if not any(usable((row[1],)) for row in rows):
        return no_data(title, x_label)
    low, high = min(*found, 0.0), max(*found, 0.0)
    room = 0.04 * (high - low) or 0.5
    limits = (low - room if low < 0 else 0.0, high + room if high > 0 or low == 0 else 0.0)
    parts, top = headline(title)
    top += 6
    row_height = 44.0
    frame = _frame(limits, top, row_height * len(rows))
    grid, bottom = frame.vertical_grid(x_label)
    parts += grid
    for index, (name, value, lower, upper) in enumerate(rows):
        words = short_number(value)
        if math.isfinite(lower) and math.isfinite(upper):
            words += f" [{short_number(lower)}, {short_number(upper)}]"
        parts.append(_row_name(name, words, top + row_height * index))
        parts.append(_bar(frame, value, lower, upper, top + row_height * index + LINE + 4))
    told = "; ".join(f"{name}: {short_number(value)}" for name, value, _, _ in rows)
    return document(parts, bottom, title or x_label, told)


def _real(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _frame(limits: Interval, top: float, height: float) -> Frame:
    """Full width: the names stand above their rows, where a phone has room for them."""
    return Frame(Scale(*limits, 14.0, WIDTH - 14), Scale(0.0, 1.0, top + height, top))


def _row_name(name: str, figures: str, top: float) -> str:
    """The row's name, and its figures at the right."""
    label = shortened(name, WIDTH - 30 - text_width(figures))
    words = text(4.0, top + 16, label) + text(WIDTH - 4, top + 16, figures, "end", style=f"fill:{MUTED}")
    # A halo of paper, so that grid lines do not run through the letters.
    style = "paint-order:stroke;stroke:var(--paper,#fff);stroke-width:4px;stroke-linejoin:round"
    return element("g", element("title", escaped(name)) + words, style=style)


def _strip_key(top: float) -> str:
    """What the marks mean."""
    y = top + LINE - 9
    marks = element("path", d=f"M10 {y - 8:.2f}v16", style=f"stroke:{INK};stroke-width:2")
    marks += element("path", d=f"M100 {y:.2f}h26", style=f"stroke:{INK};stroke-width:5;opacity:0.75")
    style = f"fill:{MUTED}"
    words = text(18.0, y + 5, "median", style=style)
    return marks + words + text(133.0, y + 5, "95 % confidence interval of the mean", style=style)


def _strip(frame: Frame, values: list[float], bar: Interval | None, index: int, top: float) -> str:
    """Dots, median and interval of one group."""
    if not values:
        return ""
    middle, spread = top + LINE + 13, 8.0
    shown = values
    if len(values) > MOST_DOTS:
        ranks = np.linspace(0, len(values) - 1, MOST_DOTS).round().astype(int)
        shown = [sorted(values)[k] for k in ranks]
    # Jitter by the golden ratio: even, and the same in every run.
    dots = "".join(
        element("circle", cx=frame.x(v), cy=middle + spread * (2 * (k * 0.6180339887 % 1) - 1), r=2.6)
        for k, v in enumerate(shown)
    )
    colour = series_colour(index)
    opacity = 0.75 if len(shown) < 60 else 0.45
    parts = element("g", dots, style=f"fill:{colour};fill-opacity:{opacity:g}")
    median = frame.x(float(np.median(values)))
    words = element("title", escaped(_summary(values)))
    line = f"M{median:.2f} {middle - 12:.2f}v24"
    parts += element("path", words, d=line, style=f"stroke:{INK};stroke-width:2")
    if bar is not None and len(usable(bar)) == 2:
        words = element("title", escaped(f"mean: {short_number(bar[0])} to {short_number(bar[1])}"))
        path = f"M{frame.x(bar[0]):.2f} {middle:.2f}H{frame.x(bar[1]):.2f}"
        parts += element("path", words, d=path, style=f"stroke:{INK};stroke-width:5;opacity:0.75")
    return parts


def _bar(frame: Frame, value: float, low: float, high: float, top: float) -> str:
    """One bar and its whisker."""
    parts = element("path", d=f"M{frame.x(0.0):.2f} {top - 3:.2f}v20", style=f"stroke:{INK}")
    if usable((value,)):
        start, end = sorted((frame.x(0.0), frame.x(value)))
        style = f"fill:{series_colour(0)};fill-opacity:0.8"
        parts += element("rect", x=start, y=top, width=max(end - start, 0.5), height=14.0, style=style)
    if len(usable((low, high))) == 2:
        left, right = frame.x(low), frame.x(high)
        path = f"M{left:.2f} {top + 2:.2f}v10m0 -5H{right:.2f}m0 -5v10"
        parts += element("path", d=path, style=f"fill:none;stroke:{INK};stroke-width:2")
    return parts


def _summary(values: Sequence[float]) -> str:
    if not values:
        return "no data"
    median, mean = short_number(float(np.median(values))), short_number(float(np.mean(values)))
    low, high = short_number(min(values)), short_number(max(values))
    return f"median {median}, mean {mean}, from {low} to {high}"
