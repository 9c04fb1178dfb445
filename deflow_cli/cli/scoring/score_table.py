"""Score table: the figures of `deflow score` on stdout, and beneath them how each was measured."""

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

Document = Mapping[str, Any]  # a score report as a dictionary


def print_score(document: Document) -> None:
    """Print the report: a table with a row per metric, or with a row per method where there are several."""
    from rich.console import Console

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(width=UNLIMITED_WIDTH) if piped else Console()
    if document["summaries"]:
        several = len(document["methods"]) > 1
        console.print(_methods_table(document) if several else _metrics_table(document))
    for line in footer(document):
        _say(console, line)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


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


def _metrics_table(document: Document) -> Table:
    from rich.table import Table
    from rich.text import Text

    method = document["methods"][0]
    table = Table(title=Text(method["name"]), title_justify="left", expand=False)
    table.add_column("metric", style="cyan", no_wrap=True)
    for name in ("mean", "95 % interval", "median", "std", "images"):
        table.add_column(name, justify="right", no_wrap=True)
    metrics = {metric["name"]: metric for metric in document["metrics"]}
    for row in document["summaries"]:
        metric = metrics[row["metric"]]
        digits = metric["digits"]
        table.add_row(
            Text(_heading(metric)),
            _figure(row["mean"], digits),
            Text(interval(row, digits)),
            _figure(row["median"], digits),
            _figure(row["std"], digits),
            f"{row['n']} of {row['of']}",
        )
    return table


def _methods_table(document: Document) -> Table:
    from rich.table import Table
    from rich.text import Text

    rows = {(row["method"], row["metric"]): row for row in document["summaries"]}
    compared = bool(document["best"])
    table = Table(title=Text("methods"), title_justify="left", expand=False, show_lines=True)
    table.add_column("method", style="cyan", overflow="fold")
    for metric in document["metrics"]:
        table.add_column(Text(_heading(metric)), justify="right")
    if compared:
        table.add_column("mean rank", justify="right")
    for method in document["methods"]:
        cells = [_cell(rows[method["name"], m["name"]], m["digits"]) for m in document["metrics"]]
        if compared:
            cells.append(Text(_figure(method["mean_rank"], 2)))
        table.add_row(Text(method["name"]), *cells)
    return table


def _cell(row: Mapping[str, Any], digits: int) -> Any:
    """Mean and rank, the interval below, and how many images where not all."""
    from rich.text import Text

    first = _figure(row["mean"], digits) + (f" #{row['rank']}" if row["rank"] else "")
    lines = [first]
    if not math.isnan(row["low"]):
        lines.append(interval(row, digits))
    if row["n"] < row["of"]:
        lines.append(f"{row['n']} of {row['of']}")
    return Text("\n".join(lines), style="bold" if row["rank"] == 1 else "")
