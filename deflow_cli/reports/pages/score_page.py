"""Score page: a score report as one HTML file: figures, distributions, and the pictures behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deflow_cli.arrays import Pixels
from deflow_cli.reports.pages.rendering import render_page
from deflow_cli.reports.pages.tables import Cell, Table, Undefined
from deflow_cli.reports.svg.categorical_plots import strip_plot

ScoreDocument = Mapping[str, Any]  # a score report as a dictionary
MOST_ROWS = 2000  # of the table of images; beyond, a browser's sorting is no help
MOST_REASONS = 100
JPEG_ABOVE = 640 * 640  # pixels; larger pictures are embedded as JPEG to keep the page light


@dataclass(frozen=True)
class Example:
    """A picture worth a look. why: ``worst PSNR, worst SSIM``. values: all its figures in words."""

    why: str
    method: str
    image: str
    values: str
    picture: Pixels
    reference: Pixels | None = None
    cut: str = ""

    @property
    def gain(self) -> float:
        """An amplification that makes the difference fill the greys without clipping most of it."""
        if self.reference is None:
            return 1.0
        rms = float(np.sqrt(np.square(self.picture.astype(np.float64) - self.reference).mean()))
        return float(min(16, max(1, round(32 / max(rms, 1e-3)))))


@dataclass(frozen=True)
class Spread:
    """An image on which methods differ most: the same window of the reference and of each method."""

    why: str
    image: str
    pictures: tuple[tuple[str, Pixels], ...]
    cut: str = ""


def score_page(
    document: ScoreDocument, examples: Sequence[Example] = (), spreads: Sequence[Spread] = ()
) -> str:
    """The page of a score report (its dictionary), with pictures that the caller has chosen."""
    names = [method["name"] for method in document["methods"]]
    count = max(method["images"] for method in document["methods"])
    subtitle = f"{count} image{'s' if count > 1 else ''}"
    if document["reference"] is not None:
        subtitle += f", compared with {document['reference']} (paired by {document['pairing']})"
    images, rows = _images(document)
    values = {
        "document": document,
        "leader": _leader(document),
        "summary": _summary(document),
        "comparisons": _comparisons(document),
        "distributions": _distributions(document),
        "examples": examples,
        "spreads": spreads,
        "jpeg_above": JPEG_ABOVE,
        "left_out": _left_out(document),
        "images": images,
        "image_rows": rows,
        "protocol": _protocol(document),
    }
    title = f"Image quality: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
    return render_page("score.html", title, subtitle, values)


def figure(value: float | None, digits: int) -> str:
    """A value with the decimals that papers print; ∞, or a dash for none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}f}".replace("-", "−")


def heading(metric: Mapping[str, Any]) -> str:
    """``PSNR ↑ dB``"""
    return f"{metric['title']} {'↑' if metric['higher_is_better'] else '↓'} {metric['unit']}".rstrip()


def _interval(row: Mapping[str, Any], digits: int) -> str:
    return "–" if math.isnan(row["low"]) else f"{figure(row['low'], digits)} to {figure(row['high'], digits)}"


def _by_name(document: ScoreDocument) -> dict[str, Mapping[str, Any]]:
    return {metric["name"]: metric for metric in document["metrics"]}


def _summary(document: ScoreDocument) -> Table | None:
    """The means of all methods, or all figures of a single one; None without any value."""
    if not document["summaries"]:
        return None
    arrows = "↑ higher is better, ↓ lower is better"
    if len(document["methods"]) == 1:
        return _one_method(document, arrows)
    rows = {(row["method"], row["metric"]): row for row in document["summaries"]}
    metrics = document["metrics"]
    ranked = bool(document["best"])
    columns = ["Method", *(heading(metric) for metric in metrics), *(["Mean rank"] if ranked else [])]
    table: list[list[Cell]] = []
    for method in document["methods"]:
        cells: list[Cell] = [method["name"]]
        cells += [_mean(rows[method["name"], metric["name"]]) for metric in metrics]
        table.append(cells + ([method["mean_rank"]] if ranked else []))
    digits = [None, *(metric["digits"] for metric in metrics), *([2] if ranked else [])]
    return Table(columns, table, "Means over images", [arrows], digits)


def _leader(document: ScoreDocument) -> str:
    """Who is best, in one sentence; nothing where no metric ranks methods."""
    ranked = [method for method in document["methods"] if method["mean_rank"] is not None]
    if not ranked:
        return ""
    least = min(method["mean_rank"] for method in ranked)
    best = [method["name"] for method in ranked if method["mean_rank"] == least]
    verb = "leads" if len(best) == 1 else "lead together"
    return (
        f"{' and '.join(best)} {verb} with a mean rank of {least:.2f} over {len(document['best'])} metrics."
    )


def _mean(row: Mapping[str, Any]) -> Cell:
    if math.isnan(row["mean"]):
        return Undefined(f"no value is defined for any of {row['of']} images")
    return float(row["mean"])


def _one_method(document: ScoreDocument, arrows: str) -> Table:
    metrics = _by_name(document)
    rows = []
    for row in document["summaries"]:
        metric = metrics[row["metric"]]
        digits = metric["digits"]
        figures = [figure(row[key], digits) for key in ("mean", "median", "std")]
        rows.append(
            [heading(metric), figures[0], _interval(row, digits), *figures[1:], f"{row['n']} of {row['of']}"]
        )
    columns = ["Metric", "Mean", "95 % interval of the mean", "Median", "Std", "Images"]
    return Table(columns, rows, notes=[arrows])


def _comparisons(document: ScoreDocument) -> list[Table]:
    """For each metric that ranks methods: the methods by rank, and their distance to the best one."""
    tables = []
    metrics = _by_name(document)
    for name, best in document["best"].items():
        digits = metrics[name]["digits"]
        rows: list[list[Cell]] = []
        found = [row for row in document["summaries"] if row["metric"] == name]
        for row in sorted(found, key=lambda row: row["rank"] or math.inf):
            difference = row["difference_to_best"]
            paired = "–"
            if row["method"] == best["method"]:
                paired = "best"
            elif difference is not None:
                paired = f"{figure(difference['mean'], digits)} ({_interval(difference, digits)})"
            count = f"{row['n']} of {row['of']}"
            mean = figure(row["mean"], digits)
            rows.append([row["method"], row["rank"], mean, _interval(row, digits), paired, count])
        columns = ["Method", "Rank", "Mean", "95 % interval", f"Difference to {best['method']}", "Images"]
        compared = f"{best['images_compared']} images compared"
        tables.append(Table(columns, rows, heading(metrics[name]), [compared]))
    return tables


def _distributions(document: ScoreDocument) -> list[tuple[str, str]]:
    """For each metric, a dot per image and method: (SVG, caption)."""
    if max(method["images"] for method in document["methods"]) < 2 or not document["summaries"]:
        return []
    plots = []
    for metric in document["metrics"]:
        values: dict[str, list[float]] = {method["name"]: [] for method in document["methods"]}
        for one in document["images"]:
            if one["metric"] == metric["name"]:
                values[one["method"]].append(one["value"])
        intervals = [
            None if math.isnan(row["low"]) else (row["low"], row["high"])
            for row in document["summaries"]
            if row["metric"] == metric["name"]
        ]
        plot = strip_plot(
            list(values.items()), x_label=heading(metric), title=metric["title"], intervals=intervals
        )
        plots.append((plot, metric["variant"]))
    return plots


def _left_out(document: ScoreDocument) -> Table | None:
    """Every value that is not defined or infinite, and why; None if there is none."""
    odd = [one for one in document["images"] if not math.isfinite(one["value"])]
    if not odd:
        return None
    metrics = _by_name(document)
    rows = [
        [
            one["method"],
            one["image"],
            metrics[one["metric"]]["title"],
            one["reason"] or "infinite: equal to its reference",
        ]
        for one in odd[:MOST_REASONS]
    ]
    more = [f"and {len(odd) - MOST_REASONS} more"] if len(odd) > MOST_REASONS else []
    return Table(["Method", "Image", "Metric", "Why"], rows, "Not in the means", more)


def _images(document: ScoreDocument) -> tuple[Table | None, int]:
    """A row per method and image, sortable by every metric, and their number; no table beyond MOST_ROWS."""
    table: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for one in document["images"]:
        table.setdefault((one["method"], one["image"]), {})[one["metric"]] = one
    if len(table) > MOST_ROWS:
        return None, len(table)
    metrics = document["metrics"]
    rows: list[list[Cell]] = [
        [method, image, *(_value(found[metric["name"]]) for metric in metrics)]
        for (method, image), found in table.items()
    ]
    columns = ["Method", "Image", *(heading(metric) for metric in metrics)]
    digits = [None, None, *(metric["digits"] for metric in metrics)]
    return Table(columns, rows, digits=digits), len(table)


def _value(one: Mapping[str, Any]) -> Cell:
    return Undefined(one["reason"]) if math.isnan(one["value"]) else float(one["value"])


def _protocol(document: ScoreDocument) -> Table:
    """How the figures were measured."""
    protocol = document["protocol"]
    rows: list[list[Cell]] = [[metric["title"], metric["variant"]] for metric in document["metrics"]]
    if {"psnr", "ssim"} & _by_name(document).keys():
        border = f"{protocol['crop_border']} px left out of PSNR and SSIM, of no other metric"
        rows += [["Protocol", f"{protocol['name']}: {protocol['text']}"], ["Border", border]]
    interval = f"percentile bootstrap over images, {document['resamples']} resamples"
    rows += [
        ["95 % intervals", f"{interval}, seed {document['seed']}"],
        ["Pixels", "8-bit RGB; 16 bits are rounded to 8, transparency is dropped"],
    ]
    rows += [[f"Images of {method['name']}", method["source"]] for method in document["methods"]]
    if document["reference"] is not None:
        rows.append(["References", document["reference"]])
    rows.append(["Computed by", f"deflow {document['version']} on {document['device']}"])
    return Table(["What", "How"], rows)
