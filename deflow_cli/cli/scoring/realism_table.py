"""Realism table: what `deflow score --realism` found, on stdout: sentences first, then every figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deflow_cli.cli.tables import Column, TextTable, results_console, say, show_table


def print_realism(document: Mapping[str, Any]) -> None:
    """Print a realism report given as a dictionary."""
    console = results_console()
    say(console, f"real: {_counted(document['real'])}")
    for found in document["synthetic"]:
        say(console, f"\n{_counted(found)}")
        for finding in found["findings"]:
            say(console, f"- {finding['severity']}: {finding['sentence']}")
        if found["figures"]:
            show_table(console, _figures_table(found["figures"]))
        for line in found["left_out"]:
            say(console, f"left out: {line}")


def _counted(images: Mapping[str, Any]) -> str:
    """``name: 24 of 150 images, 24 with a clean partner``"""
    of = f" of {images['of']}" if images["of"] != images["images"] else ""
    partners = f", {images['with_clean']} with a clean partner"
    samples = f", up to {images['samples']} samples of each" if images["samples"] > 1 else ""
    return f"{images['name']}: {images['images']}{of} images{partners}{samples}"


def _figures_table(rows: list[dict[str, Any]]) -> TextTable:
    numbers = [Column(name, right=True) for name in ("value", "95 % interval", "beside")]
    columns = [Column("figure", wraps=True, style="cyan"), *numbers, Column("what", wraps=True)]
    table = TextTable("", columns)
    section = ""
    for row in rows:
        if row["section"] != section:
            section = row["section"]
            table.rows.append((section,))
        digits = row["digits"]
        shown = f"[{_number(row['low'], digits)}, {_number(row['high'], digits)}]"
        beside = f"{_number(row['reference'], digits)} ({row['against']})"
        table.rows.append(
            (
                f"  {row['name']}",
                _number(row["value"], digits),
                "" if math.isnan(row["low"]) else shown,
                "" if math.isnan(row["reference"]) else beside,
                row["what"],
            )
        )
    return table


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
