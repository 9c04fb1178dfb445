"""Tables on the standard output: a grid where it fits, one value a line where the terminal is too narrow."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deflow_cli.cli.streams import visible

if TYPE_CHECKING:
    from rich.console import Console

UNLIMITED_WIDTH = 240  # columns of a table where nobody's terminal limits them
_BETWEEN = 3  # columns of a grid's lines and blanks beside each of its columns


@dataclass(frozen=True)
class Column:
    """A column. wraps: long texts are broken, at blanks or anywhere. right: flush right."""

    name: str = ""
    right: bool = False
    wraps: bool = False
    style: str = ""

    def least_width(self, cells: Sequence[str]) -> int:
        """Characters that it needs: of the longest line, or of the longest word where texts are broken."""
        lines = [line for cell in (self.name, *cells) for line in cell.splitlines()]
        parts = [word for line in lines for word in line.split()] if self.wraps else lines
        return max((len(part) for part in parts), default=0)


@dataclass
class TextTable:
    """A table of texts; a row of one cell is a heading above the rows that follow.

    The first column names a row. bold: places (row, column) of cells to be shown in bold.
    """

    title: str
    columns: Sequence[Column]
    rows: list[Sequence[str]] = field(default_factory=list)
    show_header: bool = True
    show_lines: bool = False
    bold: set[tuple[int, int]] = field(default_factory=set)

    @property
    def least_width(self) -> int:
        """Characters that the grid needs."""
        whole = [row for row in self.rows if len(row) == len(self.columns)]
        widths = [column.least_width([row[i] for row in whole]) for i, column in enumerate(self.columns)]
        return sum(widths) + _BETWEEN * len(widths) + 1


def results_console() -> Console:
    """The standard output; as wide as a table wants where no terminal and no COLUMNS limit it."""
    from rich.console import Console

    is_unlimited = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=UNLIMITED_WIDTH) if is_unlimited else Console()


def say(console: Console, text: str) -> None:
    """Print a text as it is; the terminal breaks it where it must."""
    console.print(visible(text), markup=False, highlight=False, soft_wrap=True)


def show_table(console: Console, table: TextTable) -> None:
    """Print a table: as a grid, or one value a line where the grid does not fit."""
    if table.least_width > console.width:
        for line in narrow_lines(table):
            say(console, line)
        return
    from rich.table import Table
    from rich.text import Text

    grid = Table(
        title=Text(visible(table.title)),
        title_justify="left",
        expand=False,
        show_header=table.show_header,
        show_lines=table.show_lines,
    )
    for column in table.columns:
        grid.add_column(
            Text(column.name),
            justify="right" if column.right else "left",
            style=column.style or None,
            no_wrap=not column.wraps,
            overflow="fold",
        )
    for place, row in enumerate(table.rows):
        if len(row) < len(table.columns):
            grid.add_section()
            grid.add_row(Text(visible(row[0]), style="bold"))
        else:
            grid.add_row(
                *(
                    Text(visible(cell), style="bold" if (place, i) in table.bold else "")
                    for i, cell in enumerate(row)
                )
            )
    console.print(grid)


def narrow_lines(table: TextTable) -> list[str]:
    """The lines of a table without a grid: the title, each row's name, then a value a line.

    >>> table = TextTable("mine", [Column("metric"), Column("mean"), Column("median")])
    >>> table.rows.append(("PSNR dB", "31.20", "31.15"))
    >>> narrow_lines(table)
    ['mine', 'PSNR dB', '  mean: 31.20', '  median: 31.15']
    """
    lines = [table.title]
    for row in table.rows:
        if len(table.columns) == 2 and len(row) == 2:
            lines.append(f"{row[0].strip()}: {' '.join(row[1].split())}")
            continue
        lines.append(row[0].strip())
        for column, cell in zip(table.columns[1:], row[1:], strict=False):
            if text := " ".join(cell.split()):
                lines.append(f"  {column.name}: {text}")
    return lines
