"""Space table: the figures of `deflow score --space` on stdout, and beneath them how each was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deflow_cli.cli.tables import Column, TextTable, results_console, say, show_table

SpaceDocument = Mapping[str, Any]  # a report about a space as a dictionary


def print_space(document: SpaceDocument) -> None:
    """Print the report: one temperature with intervals, or a row for each and how often it is the best."""
    console = results_console()
    several = len(document["sets"]) > 1
    show_table(console, _temperatures_table(document) if several else _measures_table(document))
    if document["best_temperatures"]:
        show_table(console, _best_table(document))
    for line in space_footer(document):
        say(console, line)


def space_footer(document: SpaceDocument) -> list[str]:
    """What was compared and how; then the notes."""
    inputs = "" if document["low"] is None else f", inputs: {document['low']}"
    scale = "" if document["scale"] is None else f", scale {document['scale']}"
    lines = [f"reference: {document['reference']}{inputs}{scale}"]
    lines += [f"{measure['title']}: {measure['variant']}" for measure in document["measures"]]
    if len(document["sets"]) == 1 and any(not math.isnan(row["low"]) for row in document["summaries"]):
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


def _images(count: int) -> str:
    return f"{count} image{'s' if count > 1 else ''}"


def _heading(measure: Mapping[str, Any], title: str) -> str:
    """``LR-PSNR ↑ dB``"""
    return " ".join(f"{measure[title]} {measure['arrow']} {measure['unit']}".split())


def _summaries(document: SpaceDocument) -> dict[tuple[float | None, str], Mapping[str, Any]]:
    return {(row["temperature"], row["measure"]): row for row in document["summaries"]}


def _measures_table(document: SpaceDocument) -> TextTable:
    """One temperature: a row for each measure."""
    (one,) = document["sets"]
    rows = _summaries(document)
    named = "" if one["temperature"] is None else f"temperature {one['temperature']:g}: "
    samples = f"{one['samples']} sample{'s' if one['samples'] > 1 else ''}"
    numbers = ("mean", "95 % interval", "images")
    columns = [Column("measure", wraps=True, style="cyan"), *(Column(name, right=True) for name in numbers)]
    table = TextTable(f"{named}{_images(one['images'])} with {samples} each", columns)
    for measure in document["measures"]:
        row, digits = rows[one["temperature"], measure["name"]], measure["digits"]
        interval = f"[{_number(row['low'], digits)}, {_number(row['high'], digits)}]"
        table.rows.append(
            (
                _heading(measure, "title"),
                _number(row["mean"], digits),
                "-" if math.isnan(row["low"]) else interval,
                f"{row['n']} of {row['of']}",
            )
        )
    return table


def _temperatures_table(document: SpaceDocument) -> TextTable:
    """Several temperatures: a row for each, the best mean of every measure bold."""
    rows, measures = _summaries(document), document["measures"]
    columns = [Column(style="cyan"), Column("samples", right=True)]
    columns += [Column(_heading(measure, "short"), right=True) for measure in measures]
    table = TextTable(f"means over {_images(document['sets'][0]['images'])}", columns)
    best = [_best_mean(document, measure) for measure in measures]
    for place, one in enumerate(document["sets"]):
        means = [rows[one["temperature"], measure["name"]]["mean"] for measure in measures]
        named = "no temperature" if one["temperature"] is None else f"temperature {one['temperature']:g}"
        shown = (_number(mean, measure["digits"]) for mean, measure in zip(means, measures, strict=True))
        table.rows.append((named, str(one["samples"]), *shown))
        table.bold |= {(place, 2 + number) for number, mean in enumerate(means) if mean == best[number]}
    return table


def _best_mean(document: SpaceDocument, measure: Mapping[str, Any]) -> float | None:
    means = [row["mean"] for row in document["summaries"] if row["measure"] == measure["name"]]
    found = [mean for mean in means if not math.isnan(mean)]
    if not found or not measure["better"]:
        return None
    return max(found) if measure["better"] == "higher" else min(found)


def _best_table(document: SpaceDocument) -> TextTable:
    """How often each temperature is nearest to the truth, over all pixels of all images."""
    maps = document["best_temperatures"]
    gain = sum(one["gain"] for one in maps) / len(maps)
    columns = [Column(style="cyan"), Column("of pixels", right=True), Column("best of images", right=True)]
    title = f"nearest to the truth by {document['distance']}"
    table = TextTable(f"{title} (choosing at every pixel would save {100 * gain:.1f} %)", columns)
    for temperature in sorted({temperature for one in maps for temperature in one["temperatures"]}):
        shares = [
            share
            for one in maps
            for known, share in zip(one["temperatures"], one["shares"], strict=True)
            if known == temperature
        ]
        wins = sum(one["best"] == temperature for one in maps)
        share = 100 * sum(shares) / len(maps)
        table.rows.append((f"temperature {temperature:g}", f"{share:.1f} %", f"{wins} of {len(maps)}"))
    return table
