"""Score page: a score report as one HTML file: figures, distributions, and the pictures behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deflow_cli.reports.pages.html import Page
from deflow_cli.reports.pages.pictures import Pixels
from deflow_cli.reports.pages.tables import Cell, Undefined
from deflow_cli.reports.svg.categorical_plots import strip_plot

Document = Mapping[str, Any]  # a score report as a dictionary
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


@dataclass(frozen=True)
class Spread:
    """An image on which methods differ most: the same window of the reference and of each method."""

    why: str
    image: str
    pictures: tuple[tuple[str, Pixels], ...]
    cut: str = ""


def score_page(document: Document, examples: Sequence[Example] = (), spreads: Sequence[Spread] = ()) -> str:
    """The page of a score report (its dictionary), with pictures that the caller has chosen."""
    names = [method["name"] for method in document["methods"]]
    images = max(method["images"] for method in document["methods"])
    told = f"{images} image{'s' if images > 1 else ''}"
    if document["reference"] is not None:
        told += f", compared with {document['reference']} (paired by {document['pairing']})"
    page = Page(f"Image quality: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}", told)
    _summary(page, document)
    if document["best"]:
        _comparison(page, document)
    _distributions(page, document)
    _pictures(page, examples, spreads)
    _reasons(page, document)
    _images(page, document)
    _how(page, document)
    return page.render()


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


def _by_name(document: Document) -> dict[str, Mapping[str, Any]]:
    return {metric["name"]: metric for metric in document["metrics"]}


def _summary(page: Page, document: Document) -> None:
    page.heading("Summary")
    leader = _leader(document)
    if leader:
        page.callout(leader, "good")
    for missing in document["unavailable"]:
        page.callout(
            f"{missing['metric']} was left out: {missing['message']}. Next: {missing['next_step']}.", "note"
        )
    for note in document["notes"]:
        page.callout(note, "warn")
    if not document["summaries"]:
        return
    arrows = "↑ higher is better, ↓ lower is better"
    if len(document["methods"]) == 1:
        _one_method(page, document, arrows)
        return
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
    page.table(columns, table, "Means over images", [arrows], digits)


def _leader(document: Document) -> str:
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


def _one_method(page: Page, document: Document, arrows: str) -> None:
    metrics = _by_name(document)
    rows = []
    for row in document["summaries"]:
        metric = metrics[row["metric"]]
        digits = metric["digits"]
        figures = [figure(row[key], digits) for key in ("mean", "median", "std")]
        rows.append(
            [heading(metric), figures[0], _interval(row, digits), *figures[1:], f"{row['n']} of {row['of']}"]
        )
    page.table(
        ["Metric", "Mean", "95 % interval of the mean", "Median", "Std", "Images"], rows, notes=[arrows]
    )


def _comparison(page: Page, document: Document) -> None:
    page.heading("Comparison")
    page.text(
        "Differences are of each method to the best one, over the images that all of them have a value for."
        " Methods share a rank where the paired 95 % interval of their difference includes 0."
    )
    metrics = _by_name(document)
    for name, best in document["best"].items():
        digits = metrics[name]["digits"]
        rows: list[list[Cell]] = []
        own = [row for row in document["summaries"] if row["metric"] == name]
        for row in sorted(own, key=lambda row: row["rank"] or math.inf):
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
        page.table(columns, rows, heading(metrics[name]), [f"{best['images_compared']} images compared"])


def _distributions(page: Page, document: Document) -> None:
    if max(method["images"] for method in document["methods"]) < 2 or not document["summaries"]:
        return
    page.heading("Distributions")
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
    page.figures(plots)


def _gain(picture: Pixels, reference: Pixels) -> float:
    """An amplification that makes the difference fill the greys without clipping most of it."""
    rms = float(np.sqrt(np.square(picture.astype(np.float64) - reference).mean()))
    return float(min(16, max(1, round(32 / max(rms, 1e-3)))))


def _pictures(page: Page, examples: Sequence[Example], spreads: Sequence[Spread]) -> None:
    if not examples and not spreads:
        return
    page.heading("Pictures")
    for spread in spreads:
        page.heading(f"{spread.why}: {spread.image}", 4)
        page.pictures(spread.pictures, spread.cut, jpeg_above=JPEG_ABOVE)
    for example in examples:
        page.heading(f"{example.why}: {example.image} of {example.method}", 4)
        caption = "; ".join(part for part in (example.values, example.cut) if part)
        if example.reference is None:
            page.pictures([(example.method, example.picture)], caption, jpeg_above=JPEG_ABOVE)
        else:
            gain = _gain(example.picture, example.reference)
            page.compare(
                example.method, example.picture, "reference", example.reference, caption, gain, JPEG_ABOVE
            )


def _reasons(page: Page, document: Document) -> None:
    """Every value that is not defined or infinite, and why."""
    odd = [one for one in document["images"] if not math.isfinite(one["value"])]
    if not odd:
        return
    metrics = _by_name(document)
    page.heading("Values left out")
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
    page.table(["Method", "Image", "Metric", "Why"], rows, "Not in the means", more)


def _images(page: Page, document: Document) -> None:
    """A row per method and image, sortable by every metric."""
    table: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for one in document["images"]:
        table.setdefault((one["method"], one["image"]), {})[one["metric"]] = one
    if not table:
        return
    page.heading("Images")
    if len(table) > MOST_ROWS:
        page.text(f"{len(table)} rows are too many for a page; write them by --csv FILE.")
        return
    metrics = document["metrics"]
    rows: list[list[Cell]] = [
        [method, image, *(_value(found[metric["name"]]) for metric in metrics)]
        for (method, image), found in table.items()
    ]
    columns = ["Method", "Image", *(heading(metric) for metric in metrics)]
    page.table(columns, rows, digits=[None, None, *(metric["digits"] for metric in metrics)])


def _value(one: Mapping[str, Any]) -> Cell:
    return Undefined(one["reason"]) if math.isnan(one["value"]) else float(one["value"])


def _how(page: Page, document: Document) -> None:
    page.heading("How it was measured")
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
    page.table(["What", "How"], rows)
