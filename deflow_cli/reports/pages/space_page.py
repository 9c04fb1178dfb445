"""Space page: a report about many super-resolutions of the same images, with sliders over the samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deflow_cli.arrays import Pixels
from deflow_cli.reports.pages.rendering import render_page
from deflow_cli.reports.pages.tables import Cell, Table, Undefined, cell_text
from deflow_cli.reports.svg.line_plots import Series, histogram_plot, line_plot

SpaceDocument = Mapping[str, Any]  # a report about a space as a dictionary
MOST_TABLE_ROWS = 2000  # of the table of images; beyond, a browser's sorting is no help
MOST_LOSSLESS = 30  # samples embedded as PNG; where there are more, JPEG keeps the page light
MOST_COLUMNS = 5  # temperatures side by side
MOST_LINES = 6  # temperatures in one plot
UNNAMED = "samples"  # the label where samples name no temperature


@dataclass(frozen=True)
class SamplePicture:
    """One sample on the page. group: the label of its temperature. label: what the slider says of it."""

    group: str
    label: str
    figures: str
    picture: Pixels


@dataclass(frozen=True)
class SpaceExample:
    """An image on the page: pictures of one size. low: the input, enlarged. best: the temperature map."""

    why: str
    image: str
    truth: Pixels
    samples: tuple[SamplePicture, ...]
    low: Pixels | None = None
    best: Pixels | None = None
    cut: str = ""


@dataclass(frozen=True)
class MapColour:
    """A temperature in the colour of the maps. colour: CSS."""

    label: str
    colour: str
    share: str


def temperature_label(temperature: float | None) -> str:
    """``0.8``, or `UNNAMED`."""
    return UNNAMED if temperature is None else f"{temperature:g}"


def space_page(
    document: SpaceDocument,
    examples: Sequence[SpaceExample] = (),
    colours: Sequence[tuple[int, int, int]] = (),
) -> str:
    """The page of a report (its dictionary). examples: pictures. colours: of the temperatures in the maps."""
    first = document["sets"][0]
    counts = sorted({one["samples"] for one in document["sets"]})
    samples = " to ".join(str(count) for count in (counts[0], counts[-1])[: len(counts)])
    subtitle = f"{first['images']} images, {samples} samples of each"
    if len(document["sets"]) > 1:
        subtitle += f" at {len(document['sets'])} temperatures"
    images, rows = _images_table(document)
    values = {
        "document": document,
        "summary": _summary_table(document),
        "best": _best_table(document),
        "legend": _legend(document, colours),
        "examples": examples,
        "unnamed": UNNAMED,
        "jpeg_above": 0 if sum(len(example.samples) for example in examples) > MOST_LOSSLESS else None,
        "plots": _plots(document),
        "images": images,
        "image_rows": rows,
        "protocol": _how_measured(document),
    }
    return render_page("space.html", "The space of super-resolutions", subtitle, values)


def _heading(measure: Mapping[str, Any], title: str = "title") -> str:
    return " ".join(f"{measure[title]} {measure['arrow']} {measure['unit']}".split())


def _summary_table(document: SpaceDocument) -> Table:
    """One temperature with intervals; a few side by side; many below one another, to be sorted."""
    sets, measures = document["sets"], document["measures"]
    summaries = {(row["temperature"], row["measure"]): row for row in document["summaries"]}
    if len(sets) > MOST_COLUMNS:
        rows: list[list[Cell]] = []
        for one in sets:
            found = [_mean_cell(summaries[one["temperature"], measure["name"]]) for measure in measures]
            rows.append([temperature_label(one["temperature"]), one["samples"], *found])
        columns = ["Temperature", "Samples", *(_heading(measure, "short") for measure in measures)]
        digits = [None, None, *(measure["digits"] for measure in measures)]
        return Table(columns, rows, "Means over images", _arrows(), digits)
    if len(sets) > 1:
        rows = [
            [
                _heading(measure),
                *(
                    cell_text(summaries[one["temperature"], measure["name"]]["mean"], measure["digits"])
                    for one in sets
                ),
            ]
            for measure in measures
        ]
        columns = ["Measure", *(f"at {temperature_label(one['temperature'])}" for one in sets)]
        return Table(columns, rows, "Means over images", _arrows())
    rows = []
    for measure in measures:
        row, digits = summaries[sets[0]["temperature"], measure["name"]], measure["digits"]
        interval = "–"
        if not math.isnan(row["low"]):
            interval = f"{cell_text(row['low'], digits)} to {cell_text(row['high'], digits)}"
        mean = cell_text(row["mean"], digits)
        rows.append([_heading(measure), mean, interval, f"{row['n']} of {row['of']}"])
    return Table(["Measure", "Mean", "95 % interval of the mean", "Images"], rows, notes=_arrows())


def _arrows() -> list[str]:
    return ["↑ higher is better, ↓ lower is better"]


def _mean_cell(row: Mapping[str, Any]) -> Cell:
    if math.isnan(row["mean"]):
        return Undefined(f"no value is defined for any of {row['of']} images")
    return float(row["mean"])


def _shares(document: SpaceDocument) -> dict[float, float]:
    """Mean over images of the share of pixels for which each temperature is the best."""
    maps = document["best_temperatures"]
    sums: dict[float, float] = {}
    for one in maps:
        for temperature, share in zip(one["temperatures"], one["shares"], strict=True):
            sums[temperature] = sums.get(temperature, 0.0) + share
    return {temperature: sums[temperature] / len(maps) for temperature in sorted(sums)}


def _best_table(document: SpaceDocument) -> Table | None:
    """For each temperature: of how many pixels and images it is the best; None without maps."""
    maps = document["best_temperatures"]
    if not maps:
        return None
    rows: list[list[Cell]] = []
    for temperature, share in _shares(document).items():
        distances = [
            distance
            for one in maps
            for known, distance in zip(one["temperatures"], one["distances"], strict=True)
            if known == temperature
        ]
        wins = sum(one["best"] == temperature for one in maps)
        rows.append([f"{temperature:g}", 100 * share, float(np.mean(distances)), f"{wins} of {len(maps)}"])
    gain = 100 * float(np.mean([one["gain"] for one in maps]))
    columns = ["Temperature", "Best of pixels, %", f"Mean {document['distance']}", "Best of images"]
    note = f"The best temperature at every pixel would save {gain:.1f} % of the best single one's distance."
    return Table(columns, rows, notes=[note], digits=[None, 1, None, None])


def _legend(document: SpaceDocument, colours: Sequence[tuple[int, int, int]]) -> list[MapColour]:
    if not document["best_temperatures"]:
        return []
    shares = _shares(document)
    return [
        MapColour(f"{temperature:g}", "#{:02x}{:02x}{:02x}".format(*colour), f"{100 * share:.0f} %")
        for (temperature, share), colour in zip(shares.items(), colours, strict=True)
    ]


def _plots(document: SpaceDocument) -> list[tuple[str, str]]:
    """How figures depend on temperature, on the number of samples, and where the truth lies among them."""
    plots = [_over_temperature(document, name) for name in ("diversity", "lpips-mean", "lr-psnr-mean")]
    if not any(measure["name"] == "diversity" for measure in document["measures"]):
        plots[0] = _over_temperature(document, "diversity-error")
    drawn = [plot for plot in plots if plot is not None]
    sets = _few(document["sets"])
    grown = [
        Series(_line_name(one), list(range(1, len(one["growth"]) + 1)), one["growth"])
        for one in sets
        if len(one["growth"]) > 1
    ]
    if grown:
        plot = line_plot(grown, x_label="samples", y_label="diversity score", title="Score by samples")
        drawn.append(
            (plot, f"Diversity score by {document['distance']} of the first n samples of each image.")
        )
    ranked = [one for one in sets if len(one["ranks"]) > 2]
    for count in sorted({len(one["ranks"]) for one in ranked}):
        shares = [(_line_name(one), one["ranks"]) for one in ranked]
        alike = [(name, ranks) for name, ranks in shares if len(ranks) == count]
        edges = np.arange(count + 1) - 0.5
        flat = ("calibrated", np.full(count, 1 / count))
        plot = histogram_plot(
            edges, [*alike, flat], x_label="samples below the truth", title="Rank histogram"
        )
        words = "High at both ends: the samples vary too little; high in the middle: too much."
        drawn.append((plot, f"Where true values lie among the samples. {words}"))
    return drawn


def _line_name(one: Mapping[str, Any]) -> str:
    """``temperature 0.8``, or `UNNAMED`."""
    named = one["temperature"] is not None
    return f"temperature {one['temperature']:g}" if named else UNNAMED


def _few(sets: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """At most MOST_LINES of the sets, evenly chosen, with the first and the last."""
    places = np.unique(np.linspace(0, len(sets) - 1, min(MOST_LINES, len(sets))).round().astype(int))
    return [sets[place] for place in places]


def _over_temperature(document: SpaceDocument, name: str) -> tuple[str, str] | None:
    measure = next((found for found in document["measures"] if found["name"] == name), None)
    if measure is None or len(document["sets"]) < 2:
        return None
    rows = [row for row in document["summaries"] if row["measure"] == name and row["temperature"] is not None]
    line = Series("", [row["temperature"] for row in rows], [row["mean"] for row in rows])
    plot = line_plot([line], x_label="temperature", y_label=_heading(measure), title=measure["title"])
    return plot, measure["variant"]


def _images_table(document: SpaceDocument) -> tuple[Table | None, int]:
    """A row per temperature and image, and their number; no table beyond MOST_TABLE_ROWS."""
    table: dict[tuple[float | None, str], dict[str, Mapping[str, Any]]] = {}
    for one in document["images"]:
        table.setdefault((one["temperature"], one["image"]), {})[one["measure"]] = one
    if len(table) > MOST_TABLE_ROWS:
        return None, len(table)
    measures = document["measures"]
    rows: list[list[Cell]] = [
        [image, temperature_label(temperature), *(_value_cell(found[m["name"]]) for m in measures)]
        for (temperature, image), found in table.items()
    ]
    columns = ["Image", "Temperature", *(_heading(measure, "short") for measure in measures)]
    return Table(columns, rows, digits=[None, None, *(m["digits"] for m in measures)]), len(table)


def _value_cell(one: Mapping[str, Any]) -> Cell:
    return Undefined(one["reason"]) if math.isnan(one["value"]) else float(one["value"])


def _how_measured(document: SpaceDocument) -> Table:
    rows: list[list[Cell]] = [[measure["title"], measure["variant"]] for measure in document["measures"]]
    interval = f"percentile bootstrap over images, {document['resamples']} resamples, seed {document['seed']}"
    rows += [["95 % intervals", interval], ["References", document["reference"]]]
    if document["low"] is not None:
        rows.append(["Inputs", document["low"]])
    if document["scale"] is not None:
        rows.append(["Scale", str(document["scale"])])
    for one in document["sets"]:
        rows.append([f"Temperature {temperature_label(one['temperature'])}", one["source"]])
    rows.append(["Computed by", f"deflow {document['version']} on {document['device']}"])
    return Table(["What", "How"], rows)
