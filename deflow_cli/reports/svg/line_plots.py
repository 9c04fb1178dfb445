"""Line plots: curves and histograms over a common axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deflow_cli.errors import ShapeError
from deflow_cli.reports.svg.canvas import (
    LINE,
    Canvas,
    finite,
    fitted_range,
    no_data,
    set_scale,
    short_number,
    shortened,
    usable,
    wrapped,
)
from deflow_cli.reports.svg.palette import series_colour, series_pattern

LINE_PLOT_HEIGHT = 300
FEW_POINTS = 16  # lines of at most so many points show each of them
MOST_POINTS = 1600  # longer lines are reduced to the extremes of each sliver, which look the same

Limits = tuple[float, float]


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
    x_range: Limits | None = None,
    y_range: Limits | None = None,
) -> str:
    """Lines over a common axis: an ``<svg>``.

    Ranges are the data's unless given (values beyond are cut off at the frame); on a logarithmic axis what
    is not positive counts as missing. Raises ShapeError where a series has not as many x as y.
    """
    points = [_points(one, log_x, log_y) for one in series]
    xs, ys = (np.concatenate([found[k] for found in points] or [np.empty(0)]) for k in (0, 1))
    drawn = np.isfinite(xs) & np.isfinite(ys)
    dotted = all(np.isfinite(y).sum() <= FEW_POINTS for _, y in points)
    # Without room at the sides the frame would cut the first and the last dot in half.
    x_limits = fitted_range(xs[drawn], x_range, log_x, 0.02 if dotted else 0.0)
    if x_limits is None or not drawn.any():
        return no_data(title, x_label)
    inside = drawn & (xs >= x_limits[0]) & (xs <= x_limits[1])
    y_limits = fitted_range(ys[inside if inside.any() else drawn], y_range, log_y)
    assert y_limits is not None
    with Canvas(LINE_PLOT_HEIGHT + _legend_height([one.name for one in series]), title) as canvas:
        for index, (one, (x, y)) in enumerate(zip(series, points, strict=True)):
            _draw(canvas, index, one, x, y)
        limits = (x_limits, y_limits)
        return _finished(canvas, [one.name for one in series], limits, (log_x, log_y), x_label, y_label)


def _points(series: Series, log_x: bool, log_y: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(series.x) != len(series.y):
        raise ShapeError(f"series {series.name!r}: {len(series.x)} x for {len(series.y)} y")
    x, y = usable(series.x, log_x), usable(series.y, log_y)
    missing = np.isnan(x) | np.isnan(y)
    x[missing] = y[missing] = np.nan
    return x, y


def _draw(canvas: Canvas, index: int, one: Series, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """One line, with dots where it has few points or a point has no neighbour to be joined with."""
    there = np.concatenate(([False], np.isfinite(y), [False]))
    dots = np.isfinite(y)
    if dots.sum() > FEW_POINTS:
        dots = there[1:-1] & ~there[:-2] & ~there[2:]
    x, y, dots = _thinned(x, y, dots)
    canvas.axes.plot(
        x,
        y,
        color=series_colour(index),
        linewidth=2,
        linestyle=_line_style(index, one.dashed),
        marker="o" if dots.any() else "",
        markersize=6,
        markeredgewidth=0,
        markevery=np.flatnonzero(dots).tolist(),
        label=shortened(one.name, 46),
    )


def _thinned(
    x: NDArray[np.float64], y: NDArray[np.float64], dots: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """A long line reduced to the lowest and the highest point of each sliver, with all gaps and dots."""
    if len(y) <= MOST_POINTS:
        return x, y, dots
    chosen = {0, len(y) - 1, *np.flatnonzero(np.isnan(y) | dots).tolist()}
    for sliver in np.array_split(np.arange(len(y)), MOST_POINTS // 2):
        values = y[sliver]
        if np.isfinite(values).any():
            chosen |= {int(sliver[np.nanargmin(values)]), int(sliver[np.nanargmax(values)])}
    places = sorted(chosen)
    return x[places], y[places], dots[places]


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
    bins = np.asarray(edges, dtype=np.float64)
    drawn = np.isfinite(bins[:-1]) & np.isfinite(bins[1:])
    shares = []
    for name, values in counts:
        if len(values) + 1 != len(bins):
            raise ShapeError(
                f"histogram {name!r}: {len(values)} counts for {len(bins)} edges, one less is due"
            )
        clean = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0).clip(0)
        shares.append((name, clean / (clean.sum() or 1.0)))
    seen = [value for _, found in shares for value in found[drawn] if value > 0]
    x_limits = fitted_range(finite([*bins[:-1][drawn], *bins[1:][drawn]]), None, False, 0.0)
    if not seen or x_limits is None:
        return no_data(title, x_label)
    y_limits = (min(seen) / 2, max(seen) * 1.5) if log_y else (0.0, max(seen) * 1.06)
    used = np.append(bins[:-1][drawn], bins[1:][drawn][-1])
    with Canvas(LINE_PLOT_HEIGHT + _legend_height([name for name, _ in shares]), title) as canvas:
        for index, (name, found) in enumerate(shares):
            canvas.axes.stairs(
                found[drawn],
                used,
                baseline=y_limits[0],
                color=series_colour(index),
                linewidth=1.75,
                linestyle=_line_style(index),
                label=shortened(name, 46),
            )
        limits = (x_limits, y_limits)
        return _finished(
            canvas, [name for name, _ in shares], limits, (False, log_y), x_label, y_label or "share"
        )


def _line_style(index: int, dashed: bool = False) -> tuple[float, tuple[float, ...] | None]:
    """Matplotlib's offset and dashes, in multiples of the width of a line (2 units)."""
    pattern = series_pattern(index, dashed)
    return 0.0, tuple(length / 2 for length in pattern) if pattern else None


def _legend_height(names: Sequence[str]) -> float:
    return LINE * len([name for name in names if name])


def _finished(
    canvas: Canvas,
    names: Sequence[str],
    limits: tuple[Limits, Limits],
    logs: tuple[bool, bool],
    x_label: str,
    y_label: str,
) -> str:
    """Axes, the label of the vertical one upright above it, and a legend where no line can cross it."""
    for axis, limit, log in zip("xy", limits, logs, strict=True):
        set_scale(canvas.axes, axis, limit, log)
    canvas.axes.set_xlabel(wrapped(x_label))
    canvas.axes.set_title(
        wrapped(y_label), size=14, weight="normal", color=canvas.axes.yaxis.label.get_color()
    )
    if any(names):
        canvas.legend()
    (x_low, x_high), (y_low, y_high) = limits
    description = (
        f"{y_label} from {short_number(y_low)} to {short_number(y_high)} over {x_label} from "
        f"{short_number(x_low)} to {short_number(x_high)}: {', '.join(name for name in names if name)}"
    )
    return canvas.svg(canvas.title or f"{y_label} over {x_label}", description)
