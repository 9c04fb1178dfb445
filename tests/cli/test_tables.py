"""Tables: a grid where there is room, one value a line where there is not."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from deflow_cli.cli.tables import Column, TextTable, narrow_lines, show_table


def table() -> TextTable:
    columns = [Column("metric"), Column("mean", right=True), Column("95 % interval", right=True)]
    rows = [("PSNR ↑ dB", "31.20", "[30.9, 31.6]"), ("a heading",), ("PIQE ↓", "9.10", "")]
    return TextTable("mine", columns, list(rows))


def shown(width: int) -> str:
    stream = io.StringIO()
    show_table(Console(file=stream, width=width), table())
    return stream.getvalue()


@pytest.mark.parametrize("width", [1, 10, 20, 30, 36])
def test_a_narrow_terminal_gets_one_value_a_line(width: int) -> None:
    assert shown(width).splitlines() == [
        "mine",
        "PSNR ↑ dB",
        "  mean: 31.20",
        "  95 % interval: [30.9, 31.6]",
        "a heading",
        "PIQE ↓",
        "  mean: 9.10",
    ]


@pytest.mark.parametrize("width", [37, 80, 240])
def test_a_grid_loses_nothing(width: int) -> None:
    text = shown(width)
    for cell in ("PSNR ↑ dB", "31.20", "[30.9, 31.6]", "a heading", "9.10"):
        assert cell in text
    assert "│" in text
    assert max(len(line) for line in text.splitlines()) <= width


def test_a_long_text_that_may_be_broken_takes_little_room() -> None:
    broken = TextTable("", [Column("name"), Column("what", wraps=True)], [("a", "many words " * 20)])
    whole = TextTable("", [Column("name"), Column("what")], [("a", "many words " * 20)])
    assert broken.least_width < 20 < whole.least_width


def test_two_columns_are_name_and_value() -> None:
    found = narrow_lines(TextTable("facts", [Column(), Column()], [("levels", "3"), ("steps", "16")]))
    assert found == ["facts", "levels: 3", "steps: 16"]
