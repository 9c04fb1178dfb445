"""Heatmap: a matrix as colours around zero, with the bar that explains them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deflow_cli.errors import ShapeError
from deflow_cli.reports.svg.canvas import (
    Canvas,
    finite,
    fitted_range,
    no_data,
    printable,
    short_number,
    usable,
    wrapped,
)
from deflow_cli.reports.svg.palette import VOID

HEATMAP_HEIGHT = 400
MOST_TICKS = 12
MOST_FIGURES = 16  # cells a side whose values can be printed legibly


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
    in the cells. x_ticks, y_ticks: a name per column and row. Values that are not finite are grey. Raises
    ShapeError for anything but a matrix and as many ticks as columns and rows.
    """
    values = np.asarray(values_2d, dtype=np.float64)
    if values.size == 0:
        return no_data(title, x_label)
    if values.ndim != 2:
        raise ShapeError(f"a heatmap needs a matrix, got the shape {values.shape}")
    for ticks, count, name in ((x_ticks, values.shape[1], "columns"), (y_ticks, values.shape[0], "rows")):
        if ticks is not None and len(ticks) != count:
            raise ShapeError(f"{len(ticks)} ticks for {count} {name}")
    found = finite(values.ravel())
    if not found:
        return no_data(title, x_label)
    largest = max(map(abs, found)) or 1.0
    low, high = fitted_range((), limits) or (-largest, largest)
    with Canvas(HEATMAP_HEIGHT, title) as canvas:
        _draw(canvas, values, max(abs(low), abs(high)), (low, high))
        axes = canvas.axes
        axes.grid(False)
        axes.set(xlabel=wrapped(x_label), ylabel=printable(y_label))
        axes.set_xticks(*_ticks(x_ticks))
        axes.set_yticks(*_ticks(y_ticks))
        if cells and max(values.shape) <= MOST_FIGURES:
            _print_values(canvas, values, max(abs(low), abs(high)))
        rows, columns = values.shape
        description = (
            f"{rows} rows by {columns} columns, colours from {short_number(low)} to {short_number(high)}"
        )
        return canvas.svg(canvas.title or y_label or x_label or "heatmap", description)


def _draw(canvas: Canvas, values: NDArray[np.float64], largest: float, bar: tuple[float, float]) -> None:
    """The matrix as a picture of a pixel per value, and the part of the palette between ``bar``'s ends."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    # ColorBrewer's RdBu is safe for colour-blind readers (Brewer and Harrower).
    palette = colormaps["RdBu_r"].with_extremes(bad=VOID)
    drawn = np.ma.masked_invalid(usable(values.ravel()).reshape(values.shape))
    canvas.axes.imshow(drawn, cmap=palette, vmin=-largest, vmax=largest, interpolation="none", aspect="equal")
    shown = ListedColormap(palette(Normalize(-largest, largest)(np.linspace(*bar, 64))))
    canvas.figure.colorbar(ScalarMappable(Normalize(*bar), shown), ax=canvas.axes, shrink=0.8, pad=0.03)


def _ticks(names: Sequence[str] | None) -> tuple[list[int], list[str]]:
    """Places and names of the ticks, every n-th of them where there are many."""
    names = names or ()
    places = list(range(0, len(names), max(1, math.ceil(len(names) / MOST_TICKS))))
    return places, [printable(names[place]) for place in places]


def _print_values(canvas: Canvas, values: NDArray[np.float64], largest: float) -> None:
    size = min(14.0, 100.0 / max(values.shape))
    for (row, column), value in np.ndenumerate(values):
        # The palette is dark at both ends. Pure black would be left out of the SVG and follow dark mode.
        ink = "#ffffff" if abs(value) > 0.6 * largest else "#010101"
        words = _cell_text(float(value))
        canvas.axes.text(column, row, words, ha="center", va="center", size=size, color=ink)


def _cell_text(value: float) -> str:
    if not math.isfinite(value):
        return short_number(value)
    if abs(value) >= 9.995:
        return f"{value:.3g}".replace("-", "−")
    # Without the leading zero, as correlations are printed: nine columns must stay legible on a phone.
    sign, figures = ("−" if round(value, 2) < 0 else ""), f"{abs(value):.2f}"
    return sign + figures.removeprefix("0")
