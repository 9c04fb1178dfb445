"""Space table: the figures of `deflow score --space` on stdout, and beneath them how each was measured."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deflow_cli.cli.console import UNLIMITED_WIDTH

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SpaceDocument = Mapping[str, Any]  # a report about a space as a dictionary


def print_space(document: SpaceDocument) -> None:
    """Print the report: one temperature with intervals, several in rows, or one after the other where the
    terminal is too narrow for rows."""
    from rich.console import Console

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(width=UNLIMITED_WIDTH) if piped else Console()
    rows = _temperatures_table(document)
    unlimited = console.options.update(max_width=UNLIMITED_WIDTH)
    if len(document["sets"]) > 1 and console.measure(rows, options=unlimited).minimum <= console.width:
        console.print(rows)
    else:
        for one in document["sets"]:
            console.print(_measures_table(document, one))
    if document["best_temperatures"]:
        console.print(_best_table(document))
    for line in space_footer(document):
        _say(console, line)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def space_footer(document: SpaceDocument) -> list[str]:
    """What was compared and how; then the notes."""
    inputs = "" if document["low"] is None else f", inputs: {document['low']}"
    scale = "" if document["scale"] is None else f", scale {document['scale']}"
    lines = [f"reference: {document['reference']}{inputs}{scale}"]
    lines += [f"{measure['title']}: {measure['variant']}" for measure in document["measures"]]
    if any(not math.isnan(row["low"]) for row in document["summaries"]):
        lines.append(
            "[low, high]: 95 % interval of the mean, percentile bootstrap over images"
            f" ({document['resamples']} resamples, seed {document['seed']})"
        )
    return lines + [f"note: {note}" for note in document["notes"]]


def _number(value: float, digits: int) -> str:
    """A value with its decimals; ``inf``, or a dash for none."""
    if math.isnan(value):
        return "-"
    return ("inf" if value > 0 else "-inf") if math.isinf(value) else f"{value:.{digits}f}"


def _title(one: Mapping[str, Any]) -> str:
    """``temperature 0.8: 100 images with 10 samples each``"""
    temperature = "" if one["temperature"] is None else f"temperature {one['temperature']:g}: "
    images = f"{one['images']} image{'s' if one['images'] > 1 else ''}"
    samples = f"{one['samples']} sample{'s' if one['samples'] > 1 else ''}"
    return f"{temperature}{images} with {samples} each"


def _summaries(document: SpaceDocument) -> dict[tuple[float | None, str], Mapping[str, Any]]:
    return {(row["temperature"], row["measure"]): row for row in document["summaries"]}


def _measures_table(document: SpaceDocument, one: Mapping[str, Any]) -> Table:
    """One temperature: a row for each measure."""
    from rich.table import Table
    from rich.text import Text

    rows = _summaries(document)
    table = Table(title=Text(_title(one)), title_justify="left", expand=False)
    table.add_column("measure", style="cyan")
    for name in ("mean", "95 % interval", "images"):
        table.add_column(name, justify="right", no_wrap=True)
    for measure in document["measures"]:
        row, digits = rows[one["temperature"], measure["name"]], measure["digits"]
        interval = f"[{_number(row['low'], digits)}, {_number(row['high'], digits)}]"
        table.add_row(
            Text(" ".join(f"{measure['title']} {measure['arrow']} {measure['unit']}".split())),
            _number(row["mean"], digits),
            Text("-" if math.isnan(row["low"]) else interval),
            f"{row['n']} of {row['of']}",
        )
    return table


def _temperatures_table(document: SpaceDocument) -> Table:
    """Several temperatures: a row for each, the best mean of every measure bold."""
    from rich.table import Table
    from rich.text import Text

    rows = _summaries(document)
    first = document["sets"][0]
    images = f"{first['images']} image{'s' if first['images'] > 1 else ''}"
    table = Table(title=Text(f"means over {images}"), title_justify="left", expand=False)
    table.add_column("temperature", style="cyan", no_wrap=True)
    table.add_column("samples", justify="right", no_wrap=True)
    for measure in document["measures"]:
        heading = " ".join(f"{measure['short']} {measure['arrow']} {measure['unit']}".split())
        table.add_column(Text(heading), justify="right", no_wrap=True)
    best = {measure["name"]: _best_mean(document, measure) for measure in document["measures"]}
    for one in document["sets"]:
        cells = []
        for measure in document["measures"]:
            mean = rows[one["temperature"], measure["name"]]["mean"]
            style = "bold" if mean == best[measure["name"]] else ""
            cells.append(Text(_number(mean, measure["digits"]), style=style))
        temperature = "-" if one["temperature"] is None else f"{one['temperature']:g}"
        table.add_row(temperature, str(one["samples"]), *cells)
    return table


def _best_mean(document: SpaceDocument, measure: Mapping[str, Any]) -> float | None:
    means = [row["mean"] for row in document["summaries"] if row["measure"] == measure["name"]]
    found = [mean for mean in means if not math.isnan(mean)]
    if not found or not measure["better"]:
        return None
    return max(found) if measure["better"] == "higher" else min(found)


def _best_table(document: SpaceDocument) -> Table:
    """How often each temperature is nearest to the truth, over all pixels of all images."""
    from rich.table import Table
    from rich.text import Text

    maps = document["best_temperatures"]
    temperatures = sorted({temperature for one in maps for temperature in one["temperatures"]})
    gain = sum(one["gain"] for one in maps) / len(maps)
    title = (
        f"nearest to the truth by {document['distance']}; choosing per pixel would save {100 * gain:.1f} %"
    )
    table = Table(title=Text(title), title_justify="left", expand=False)
    table.add_column("temperature", style="cyan", no_wrap=True)
    table.add_column("of pixels", justify="right", no_wrap=True)
    table.add_column("best of images", justify="right", no_wrap=True)
    for temperature in temperatures:
        shares = [
            share
            for one in maps
            for known, share in zip(one["temperatures"], one["shares"], strict=True)
            if known == temperature
        ]
        wins = sum(one["best"] == temperature for one in maps)
        share = 100 * sum(shares) / len(maps)
        table.add_row(f"{temperature:g}", f"{share:.1f} %", f"{wins} of {len(maps)}")
    return table
