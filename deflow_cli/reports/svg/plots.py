"""Plots: numbers as inline SVG, without any library and legible on a phone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deflow_cli.errors import ShapeError
from deflow_cli.reports.svg.axes import (
    FONT,
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
from deflow_cli.reports.svg.categorical_plots import bar_plot, strip_plot
from deflow_cli.reports.svg.heatmap import heatmap
from deflow_cli.reports.svg.markup import element, escaped
from deflow_cli.reports.svg.palette import series_colour, series_pattern

__all__ = ["Series", "bar_plot", "heatmap", "histogram_plot", "line_plot", "strip_plot"]

PLOT_HEIGHT = 220.0
# More points than this in one line are reduced to the extremes of each sliver: nobody sees more.
MOST_POINTS = 1600
# Lines of few points show them, with their values as tooltips.
FEW_POINTS = 16

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """A named line: as many x as y; a value that is not finite breaks the line."""

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    dashed: bool = False


def line_plot(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
) -> str:
    """Lines over a common axis: an ``<svg>``.

    Ranges are the data's unless given (values beyond are cut off at the frame); on a logarithmic axis what
    is not positive counts as missing. Raises ShapeError where a series has not as many x as y.
    """
    runs = [_runs(one, log_x, log_y) for one in series]
    points = [p for parts in runs for run in parts for p in run]
    x_limits = fitted_range((p[0] for p in points), x_range, log_x, 0.0)
    if not points or x_limits is None:
        return no_data(title, x_label)
    seen = [y for x, y in points if x_limits[0] <= x <= x_limits[1]]
    y_limits = fitted_range(seen or [y for _, y in points], y_range, log_y)
    if y_limits is None:
        return no_data(title, x_label)
    styles = [_style(index, one.dashed) for index, one in enumerate(series)]
    keys = [(one.name, style) for one, style in zip(series, styles, strict=True)]

    def draw(frame: Frame) -> str:
        drawn = zip(series, runs, styles, strict=True)
        return "".join(_line(frame, one.name, parts, style) for one, parts, style in drawn)

    logs = (log_x, log_y)
    return _framed(draw, keys, (x_limits, y_limits), logs, x_label=x_label, y_label=y_label, title=title)


def histogram_plot(
    edges: Sequence[float] | np.ndarray,
    counts: Sequence[tuple[str, Sequence[float] | np.ndarray]],
    *,
    x_label: str,
    y_label: str = "",
    title: str = "",
    log_y: bool = False,
) -> str:
    """Histograms over the same bins as steps, each normalised to shares of its own sum: an ``<svg>``.

    edges: one more than the counts; bins with an infinite edge count in the sum and are not drawn. Raises
    ShapeError where the numbers of edges and counts do not fit.
    """
    bins = [float(edge) for edge in edges]
    shares: list[tuple[str, list[float]]] = []
    for name, values in counts:
        if len(values) + 1 != len(bins):
            raise ShapeError(
                f"histogram {name!r}: {len(values)} counts for {len(bins)} edges, one less is due"
            )
        clean = [max(v, 0.0) if math.isfinite(v) else 0.0 for v in map(float, values)]
        total = sum(clean)
        shares.append((name, [v / total for v in clean] if total > 0 else []))
    drawn = [k for k in range(len(bins) - 1) if math.isfinite(bins[k]) and math.isfinite(bins[k + 1])]
    seen = usable((values[k] for _, values in shares if values for k in drawn), log_y)
    x_limits = fitted_range((bins[k + side] for k in drawn for side in (0, 1)), None, False, 0.0)
    if not seen or max(seen) <= 0 or x_limits is None:
        return no_data(title, x_label)
    y_limits = (min(seen) / 2, max(seen) * 1.5) if log_y else (0.0, max(seen) * 1.06)
    keys = [(name, _style(index, False)) for index, (name, _) in enumerate(shares)]

    def draw(frame: Frame) -> str:
        steps = zip(keys, shares, strict=True)
        return "".join(_steps(frame, bins, drawn, values, style) for (_, style), (_, values) in steps)

    limits, label = (x_limits, y_limits), y_label or "share"
    return _framed(draw, keys, limits, (False, log_y), x_label=x_label, y_label=label, title=title)


@dataclass(frozen=True)
class _Style:
    """How a series is drawn: colour and dash pattern."""

    colour: str
    pattern: str | None

    def stroke(self, path: str, width: float = 2.0) -> str:
        """A ``<path>`` in this style."""
        style = f"fill:none;stroke:{self.colour};stroke-width:{width:g};stroke-linejoin:round"
        return element("path", d=path, style=style, stroke_dasharray=self.pattern)


def _style(index: int, dashed: bool) -> _Style:
    return _Style(series_colour(index), series_pattern(index, dashed))


def _runs(series: Series, log_x: bool, log_y: bool) -> list[list[Point]]:
    """The unbroken stretches of a line."""
    if len(series.x) != len(series.y):
        raise ShapeError(f"series {series.name!r}: {len(series.x)} x for {len(series.y)} y")
    runs: list[list[Point]] = [[]]
    for x, y in zip(map(float, series.x), map(float, series.y), strict=True):
        if usable((x,), log_x) and usable((y,), log_y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _thinned(run: list[Point]) -> list[Point]:
    """A long run reduced to the lowest and highest point of each sliver, in order."""
    if len(run) <= MOST_POINTS:
        return run
    size = math.ceil(2 * len(run) / MOST_POINTS)
    kept = [run[0]]
    for start in range(0, len(run), size):
        sliver = range(start, min(start + size, len(run)))
        low = min(sliver, key=lambda k: run[k][1])
        high = max(sliver, key=lambda k: run[k][1])
        kept += [run[k] for k in sorted({low, high})]
    return [*kept, run[-1]]


def _line(frame: Frame, name: str, runs: list[list[Point]], style: _Style) -> str:
    """The stretches of one series, single points and those of short lines as dots."""
    path = ""
    dots: list[Point] = []
    few = sum(map(len, runs)) <= FEW_POINTS
    for run in runs:
        if few or len(run) == 1:
            dots += run
        if len(run) > 1:
            path += "M" + "L".join(f"{frame.x(x):.2f} {frame.y(y):.2f}" for x, y in _thinned(run))
    marks = "".join(
        element(
            "circle",
            element("title", escaped(f"{name}: {short_number(y)} at {short_number(x)}")),
            cx=frame.x(x),
            cy=frame.y(y),
            r=3.0,
        )
        for x, y in dots
    )
    line = style.stroke(path) if path else ""
    return line + (element("g", marks, style=f"fill:{style.colour}") if marks else "")


def _steps(frame: Frame, bins: list[float], drawn: list[int], values: list[float], style: _Style) -> str:
    """One histogram: a faint area and its outline; empty bins stand on the floor."""
    if not values:
        return ""
    floor = frame.y.start
    path = ""
    previous = None
    for k in drawn:
        height = frame.y(values[k]) if values[k] > 0 else floor
        left, right = frame.x(bins[k]), frame.x(bins[k + 1])
        joined = previous is not None and previous == k - 1
        if previous is not None and not joined:
            path += f"V{floor:.2f}"
        path += f"V{height:.2f}" if joined else f"M{left:.2f} {floor:.2f}V{height:.2f}"
        path += f"H{right:.2f}"
        previous = k
    path += f"V{floor:.2f}"
    area = element("path", d=path, style=f"fill:{style.colour};fill-opacity:0.1")
    return area + style.stroke(path, 1.75)


def _legend(keys: Sequence[tuple[str, _Style]], top: float) -> tuple[list[str], float]:
    """Names beside a piece of their line, in rows above the frame where no line can cross them."""
    parts: list[str] = []
    left, sample, gap = 4.0, 30.0, 18.0
    named = [(name, style) for name, style in keys if name]
    if named:
        top += LINE
    for name, style in named:
        label = shortened(name, WIDTH - sample - 16)
        width = sample + 6 + text_width(label)
        if left > 4.0 and left + width > WIDTH - 4:
            left, top = 4.0, top + LINE
        line = style.stroke(f"M{left:.2f} {top - 9:.2f}h{sample:.2f}", 2.5)
        words = text(left + sample + 6, top - 4, label)
        parts.append(element("g", element("title", escaped(name)) + line + words))
        left += width + gap
    return parts, top


def _framed(
    draw: Callable[[Frame], str],
    keys: Sequence[tuple[str, _Style]],
    limits: tuple[tuple[float, float], tuple[float, float]],
    logs: tuple[bool, bool],
    *,
    x_label: str,
    y_label: str,
    title: str,
) -> str:
    """Title, legend, axes and what ``draw`` puts between them."""
    head, top = headline(title)
    legend, top = _legend(keys, top)
    label, top = headline("", y_label, top + (4 if legend else 0))
    top += 8
    (x_low, x_high), (y_low, y_high) = limits
    y_scale = Scale(y_low, y_high, top + PLOT_HEIGHT, top, logs[1])
    ticks = y_scale.ticks(7)
    left = 14 + max((text_width(words) for _, words in ticks), default=FONT)
    frame = Frame(Scale(x_low, x_high, left, WIDTH - 12, logs[0]), y_scale)
    below, bottom = frame.vertical_grid(x_label)
    grid = [*below, *frame.horizontal_grid(ticks)]
    names = ", ".join(name for name, _ in keys if name)
    description = (
        f"{y_label} from {short_number(y_low)} to {short_number(y_high)} over {x_label} from "
        f"{short_number(x_low)} to {short_number(x_high)}: {names}"
    )
    parts = [*head, *legend, *label, *grid, frame.clipped(draw(frame)), frame.border()]
    return document(parts, bottom, title or f"{y_label} over {x_label}", description)
