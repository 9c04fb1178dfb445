"""Tables: cells as text that sorts as numbers, with a reason for each that has none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from deflow_cli.errors import ShapeError
from deflow_cli.reports.pages.markup import element, escaped

DASH = "–"


@dataclass(frozen=True)
class Undefined:
    """A cell without a value, and why: shown as a dash with a footnote."""

    reason: str


Cell = str | float | int | Undefined | None


def cell_text(value: Cell, digits: int | None = None) -> str:
    """What stands in the cell: ``digits`` decimals (default: four significant digits), ∞, or a dash."""
    if value is None or isinstance(value, Undefined):
        return DASH
    if isinstance(value, str) or not isinstance(value, Real):
        return str(value)
    if isinstance(value, Integral) and digits is None:
        return str(value).replace("-", "−")
    figure = float(value)
    if math.isnan(figure):
        return DASH
    if math.isinf(figure):
        return "∞" if figure > 0 else "−∞"
    text = f"{figure:.4g}" if digits is None else f"{figure:.{digits}f}"
    return text.replace("-", "−")


def table_markup(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    caption: str,
    notes: Sequence[str],
    digits: Sequence[int | None] | None,
) -> str:
    """The table in a box of its own that scrolls sideways. Raises ShapeError for ragged rows."""
    for number, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            raise ShapeError(f"table row {number} has {len(row)} cells for {len(columns)} columns")
    decimals = [None] * len(columns) if digits is None else list(digits)
    if len(decimals) != len(columns):
        raise ShapeError(f"{len(decimals)} digits for {len(columns)} columns")
    reasons: dict[str, int] = {}
    body = "".join(
        element("tr", "".join(_cell(v, decimals[k], reasons, k == 0) for k, v in enumerate(row)))
        for row in rows
    )
    heads = "".join(
        element("th", escaped(name), scope="col", class_="number" if _numeric(rows, k) else None)
        for k, name in enumerate(columns)
    )
    words = element("caption", escaped(caption)) if caption else ""
    table = element("table", words + element("thead", element("tr", heads)) + element("tbody", body))
    label = escaped(caption or "table")
    box = f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">{table}</div>'
    told = [element("sup", str(mark)) + " " + escaped(reason) for reason, mark in reasons.items()]
    if any(_is_nan(value) for row in rows for value in row):
        told.append(f"{DASH} the value is not defined there")
    told += [escaped(note) for note in notes]
    return element("div", box + "".join(element("p", note, class_="remark") for note in told), class_="table")


def _is_nan(value: Cell) -> bool:
    return isinstance(value, Real) and math.isnan(float(value))


def _numeric(rows: Sequence[Sequence[Cell]], column: int) -> bool:
    kinds = {isinstance(row[column], str) for row in rows if row[column] is not None}
    return kinds == {False}


def _cell(value: Cell, digits: int | None, reasons: dict[str, int], first: bool) -> str:
    """One cell; ``data-v`` is what it sorts by."""
    if isinstance(value, str):
        return element("th" if first else "td", escaped(value), scope="row" if first else None)
    attributes: dict[str, Any] = {"class_": "number"}
    content = escaped(cell_text(value, digits))
    if isinstance(value, Undefined):
        mark = reasons.setdefault(value.reason, len(reasons) + 1)
        attributes["title"] = value.reason
        content += element("sup", str(mark))
    elif value is None or _is_nan(value):
        attributes["title"] = "no value" if value is None else "not defined"
    elif isinstance(value, Real):
        attributes["data_v"] = repr(float(value))
    return element("td", content, **attributes)
