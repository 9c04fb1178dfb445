"""Tables: cells as text that sorts as numbers, with a footnote for each cell that has no value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from deflow_cli.errors import ShapeError

DASH = "–"


@dataclass(frozen=True)
class Undefined:
    """A cell without a value, and why: shown as a dash with a footnote."""

    reason: str


Cell = str | float | int | Undefined | None


@dataclass(frozen=True)
class ShownCell:
    """A cell as a template needs it.

    sorts_by: the number that the page's script sorts by, empty for text and missing values. hint: what the
    cell says when pointed at. footnote: the number of its footnote, 0 for none.
    """

    text: str
    number: bool
    sorts_by: str = ""
    hint: str = ""
    footnote: int = 0


@dataclass(frozen=True)
class Table:
    """A table whose reader can sort it by each column.

    Cells are text, numbers, None (nothing to say), or `Undefined`: a dash with the reason as a footnote.
    Infinity is shown as ∞, NaN as a dash that is explained below the table. digits: decimals of each column,
    None for four significant digits. Raises ShapeError for rows of another length than ``columns``.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    notes: Sequence[str] = ()
    digits: Sequence[int | None] | None = None

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.columns):
                raise ShapeError(f"table row {number} has {len(row)} cells for {len(self.columns)} columns")
        if self.digits is not None and len(self.digits) != len(self.columns):
            raise ShapeError(f"{len(self.digits)} digits for {len(self.columns)} columns")

    @property
    def numeric(self) -> list[bool]:
        """For each column, whether it holds numbers alone, whose heading then stands at the right."""
        kinds = ({isinstance(row[k], str) for row in self.rows if row[k] is not None} for k in self._places)
        return [found == {False} for found in kinds]

    @property
    def reasons(self) -> list[str]:
        """The footnotes: every reason once, in order of appearance."""
        cells = (cell for row in self.rows for cell in row)
        return list(dict.fromkeys(cell.reason for cell in cells if isinstance(cell, Undefined)))

    @property
    def remarks(self) -> list[str]:
        """The notes below the table, the first of them about NaN where there is one."""
        undefined = any(_is_nan(cell) for row in self.rows for cell in row)
        return [*([f"{DASH} the value is not defined there"] if undefined else []), *self.notes]

    @property
    def body(self) -> list[list[ShownCell]]:
        """The rows as they are shown."""
        digits = self.digits or [None] * len(self.columns)
        marks = {reason: number for number, reason in enumerate(self.reasons, start=1)}
        return [[_shown(row[k], digits[k], marks) for k in self._places] for row in self.rows]

    @property
    def _places(self) -> range:
        return range(len(self.columns))


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


def _is_nan(value: Cell) -> bool:
    return isinstance(value, Real) and math.isnan(float(value))


def _shown(value: Cell, digits: int | None, marks: dict[str, int]) -> ShownCell:
    text = cell_text(value, digits)
    if isinstance(value, str):
        return ShownCell(text, number=False)
    if isinstance(value, Undefined):
        return ShownCell(text, number=True, hint=value.reason, footnote=marks[value.reason])
    if value is None or _is_nan(value):
        return ShownCell(text, number=True, hint="no value" if value is None else "not defined")
    return ShownCell(text, number=True, sorts_by=repr(float(value)))
