"""Realism table: what `deflow score --realism` found, on stdout: sentences first, then every figure."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deflow_cli.cli.console import UNLIMITED_WIDTH

if TYPE_CHECKING:
    from rich.table import Table


def print_realism(document: Mapping[str, Any]) -> None:
    """Print a realism report given as a dictionary."""
    from rich.console import Console

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(width=UNLIMITED_WIDTH) if piped else Console()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"real: {_counted(document['real'])}")
    for found in document["synthetic"]:
        say(f"\n{_counted(found)}")
        for finding in found["findings"]:
            say(f"- {finding['severity']}: {finding['sentence']}")
        if found["figures"]:
            console.print(_figures_table(found["figures"]))
        for line in found["left_out"]:
            say(f"left out: {line}")


def _counted(images: Mapping[str, Any]) -> str:
    """``name: 24 of 150 images, 24 with a clean partner``"""
    of = f" of {images['of']}" if images["of"] != images["images"] else ""
    partners = f", {images['with_clean']} with a clean partner"
    samples = f", up to {images['samples']} samples of each" if images["samples"] > 1 else ""
    return f"{images['name']}: {images['images']}{of} images{partners}{samples}"


def _figures_table(rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(expand=False)
    table.add_column("figure", style="cyan")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("beside", justify="right", no_wrap=True)
    table.add_column("what")
    section = ""
    for row in rows:
        if row["section"] != section:
            section = row["section"]
            table.add_section()
            table.add_row(Text(section, style="bold"))
        digits = row["digits"]
        interval = f"[{_number(row['low'], digits)}, {_number(row['high'], digits)}]"
        table.add_row(
            Text(f"  {row['name']}"),
            _number(row["value"], digits),
            Text("" if math.isnan(row["low"]) else interval),
            "" if math.isnan(row["reference"]) else f"{_number(row['reference'], digits)} ({row['against']})",
            Text(row["what"]),
        )
    return table


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
