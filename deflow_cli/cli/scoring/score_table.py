"""Score table: the figures of `deflow score` on stdout, and beneath them how each was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deflow_cli.cli.tables import Column, TextTable, results_console, say, show_table

Document = Mapping[str, Any]  # a score report as a dictionary


def print_score(document: Document) -> None:
    """Print the report: a table with a row per metric, or with a row per method where there are several."""
    console = results_console()
    if document["summaries"]:
        several = len(document["methods"]) > 1
        show_table(console, _methods_table(document) if several else _metrics_table(document))
    for line in footer(document):
        say(console, line)


def footer(document: Document) -> list[str]:
    """How the figures were measured: protocol, reference, the variant of each metric; then the notes."""
    protocol = document["protocol"]
    lines = []
    if any(metric["name"] in ("psnr", "ssim") for metric in document["metrics"]):
        lines.append(
            f"protocol {protocol['name']}: {protocol['text']}; {protocol['crop_border']} px of border left"
            " out of PSNR and SSIM (of no other metric)"
        )
    if document["reference"] is not None:
        lines.append(f"reference: {document['reference']}, paired by {document['pairing']}")
    lines += [f"{metric['title']}: {metric['variant']}" for metric in document["metrics"]]
    if any(not math.isnan(row["low"]) for row in document["summaries"]):
        lines.append(
            "[low, high]: 95 % interval of the mean, percentile bootstrap over images"
            f" ({document['resamples']} resamples, seed {document['seed']})"
        )
    if document["best"]:
        lines.append(
            "#rank: methods share a rank where the paired 95 % interval of their difference includes 0"
        )
    return lines + [f"note: {note}" for note in document["notes"]]


def _figure(value: float | None, digits: int) -> str:
    """A value with the decimals that papers print; ``inf``, or a dash for none."""
    if value is None or math.isnan(value):
        return "-"
    return ("inf" if value > 0 else "-inf") if math.isinf(value) else f"{value:.{digits}f}"


def interval(row: Mapping[str, Any], digits: int) -> str:
    if math.isnan(row["low"]):
        return "-"
    return f"[{_figure(row['low'], digits)}, {_figure(row['high'], digits)}]"


def _heading(metric: Mapping[str, Any]) -> str:
    """``PSNR ↑ dB``"""
    return f"{metric['title']} {'↑' if metric['higher_is_better'] else '↓'} {metric['unit']}".rstrip()


def _metrics_table(document: Document) -> TextTable:
    numbers = ("mean", "95 % interval", "median", "std", "images")
    columns = [Column("metric", style="cyan"), *(Column(name, right=True) for name in numbers)]
    table = TextTable(document["methods"][0]["name"], columns)
    metrics = {metric["name"]: metric for metric in document["metrics"]}
    for row in document["summaries"]:
        metric = metrics[row["metric"]]
        digits = metric["digits"]
        table.rows.append(
            (
                _heading(metric),
                _figure(row["mean"], digits),
                interval(row, digits),
                _figure(row["median"], digits),
                _figure(row["std"], digits),
                f"{row['n']} of {row['of']}",
            )
        )
    return table


def _methods_table(document: Document) -> TextTable:
    rows = {(row["method"], row["metric"]): row for row in document["summaries"]}
    metrics, compared = document["metrics"], bool(document["best"])
    columns = [Column("method", wraps=True, style="cyan")]
    columns += [Column(_heading(metric), right=True, wraps=True) for metric in metrics]
    columns += [Column("mean rank", right=True)] if compared else []
    table = TextTable("methods", columns, show_lines=True)
    for place, method in enumerate(document["methods"]):
        cells = [method["name"]]
        for number, metric in enumerate(metrics, start=1):
            row = rows[method["name"], metric["name"]]
            cells.append(_cell(row, metric["digits"]))
            if row["rank"] == 1:
                table.bold.add((place, number))
        if compared:
            cells.append(_figure(method["mean_rank"], 2))
        table.rows.append(cells)
    return table


def _cell(row: Mapping[str, Any], digits: int) -> str:
    """Mean and rank, the interval below, and how many images where not all."""
    lines = [_figure(row["mean"], digits) + (f" #{row['rank']}" if row["rank"] else "")]
    if not math.isnan(row["low"]):
        lines.append(interval(row, digits))
    if row["n"] < row["of"]:
        lines.append(f"{row['n']} of {row['of']}")
    return "\n".join(lines)
