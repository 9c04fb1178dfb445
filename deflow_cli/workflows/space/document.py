"""Document: a report about a space as plain values, for JSON, tables and the page, and as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterator
from typing import Any

from deflow_cli import __version__
from deflow_cli.metrics.summary import RESAMPLES
from deflow_cli.workflows.space.run import SpaceReport, SpaceScore, mean_over_images

SPACE_COLUMNS = ("temperature", "image", "sample", "measure", "value", "reason", "variant")
# The figures of single samples, by the field's name, with the measure that says how they were taken.
OF_SAMPLES = {
    "lpips": "lpips-mean",
    "plain_lpips": "",
    "squared_error": "diversity-error",
    "psnr": "psnr-mean",
    "lr_psnr": "lr-psnr-mean",
    "input_psnr": "input-psnr",
}


def space_document(report: SpaceReport) -> dict[str, Any]:
    """The whole report as plain values; NaN and infinity as they are."""
    request = report.request
    return {
        "version": __version__,
        "reference": str(request.reference),
        "low": None if request.low is None else str(request.low),
        "scale": report.scale,
        "device": report.device,
        "seed": request.seed,
        "resamples": RESAMPLES,
        "distance": report.distance,
        "measures": [dataclasses.asdict(measure) | {"arrow": measure.arrow} for measure in report.measures],
        "sets": [
            {
                "temperature": one.temperature,
                "source": str(one.source),
                "images": len(one.images),
                "samples": one.samples,
                "ranks": list(mean_over_images(report, one.temperature, lambda found: found.ranks)),
                "growth": list(mean_over_images(report, one.temperature, lambda found: found.growth)),
            }
            for one in report.sets
        ],
        "summaries": [
            {"temperature": row.temperature, "measure": row.measure, **dataclasses.asdict(row.summary)}
            for row in report.summaries
        ],
        "images": [row for score in report.scores for row in _values(report, score)],
        "samples": [row for score in report.scores for row in _samples(score)],
        "best_temperatures": [
            {
                "image": one.image,
                "temperatures": list(one.temperatures),
                "shares": one.shares.tolist(),
                "distances": list(one.means),
                "best": one.best,
                "distance_of_best_per_pixel": one.local,
                "gain": one.gain,
            }
            for one in report.maps
        ],
        "unavailable": None
        if report.missing is None
        else {"message": report.missing.message, "next_step": report.missing.next_step},
        "unreadable": report.unreadable,
        "notes": list(report.notes),
    }


def _values(report: SpaceReport, score: SpaceScore) -> Iterator[dict[str, Any]]:
    figures = score.figures
    for measure in report.measures:
        value = figures.values.get(measure.name, math.nan)
        yield {
            "temperature": score.temperature,
            "image": score.image.name,
            "measure": measure.name,
            "value": value,
            "infinite": math.isinf(value),
            "reason": figures.trouble or figures.reasons.get(measure.name, ""),
        }


def _samples(score: SpaceScore) -> Iterator[dict[str, Any]]:
    for one in score.figures.samples:
        yield {"temperature": score.temperature, "image": score.image.name, "sample": one.path.name} | {
            name: getattr(one, name) for name in OF_SAMPLES
        }


def space_csv(report: SpaceReport) -> str:
    """A line for every image and measure, then for every sample and figure; full precision.

    ``inf`` for infinity, empty where undefined; the temperature is empty where samples name none.
    """
    document = space_document(report)
    variants = {measure["name"]: measure["variant"] for measure in document["measures"]}
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(SPACE_COLUMNS)
    for row in document["images"]:
        where = [_number(row["temperature"]), row["image"], "", row["measure"]]
        writer.writerow(
            [*where, _number(row["value"]), " ".join(row["reason"].split()), variants[row["measure"]]]
        )
    for row in document["samples"]:
        for name, measure in OF_SAMPLES.items():
            if not math.isnan(row[name]):
                where = [_number(row["temperature"]), row["image"], row["sample"], name]
                writer.writerow([*where, _number(row[name]), "", variants.get(measure, "")])
    return buffer.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))
