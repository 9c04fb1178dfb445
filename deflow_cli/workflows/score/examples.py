"""Score examples: the pictures behind the figures: worst, best, and where methods differ most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from deflow_cli.arrays import Pixels
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.reference_matching import MatchedImage
from deflow_cli.errors import DataError
from deflow_cli.metrics.base import Metric
from deflow_cli.reports.pages.pictures import window_of
from deflow_cli.reports.pages.score_page import Example, Spread, figure, score_page
from deflow_cli.workflows.score.run import ScoreReport

MOST_EXAMPLES = 8
LARGEST_EXAMPLE = 1200  # px; larger pictures are cut where they differ most, or reduced
WINDOW = 640  # px of a cut
SPREAD_WINDOW = 240  # px of the windows that stand side by side
SPREADS = 3

Picked = tuple[str, str]  # method, image


def html_text(report: ScoreReport) -> str:
    """The page of a report. Pictures that cannot be read are left out; their reasons stand in the page."""
    return score_page(report.as_dict(), list(_examples(report)), list(_spreads(report)))


def _telling(report: ScoreReport) -> list[Metric]:
    """The metrics to choose pictures by: those with a reference, else NIQE, else the first there is."""
    paired = [metric for metric in report.metrics if metric.needs_reference]
    blind = sorted(report.metrics, key=lambda metric: metric.name != "niqe")
    return paired or blind[:1]


def _ranked(report: ScoreReport, metric: Metric, method: str) -> list[str]:
    """Images of a method from worst to best, without those that have no value."""
    sign = 1 if metric.higher_is_better else -1
    found = [
        (sign * one.value, one.image)
        for one in report.scores
        if one.metric == metric.name and one.method == method and not math.isnan(one.value)
    ]
    return [image for _, image in sorted(found)]


def pick(report: ScoreReport) -> dict[Picked, list[str]]:
    """Which pictures to show and why: the worst and the best by each telling metric, at most MOST_EXAMPLES.

    One method shows its two worst, several show their worst; the best come after all worst ones.
    """
    worst: dict[Picked, list[str]] = {}
    best: dict[Picked, list[str]] = {}
    count = 2 if len(report.methods) == 1 else 1
    for metric in _telling(report):
        for method in report.methods:
            images = _ranked(report, metric, method.name)
            for image, place in zip(images[:count], ("worst", "second worst"), strict=False):
                worst.setdefault((method.name, image), []).append(f"{place} {metric.title}")
            if len(images) > count:
                best.setdefault((method.name, images[-1]), []).append(f"best {metric.title}")
    for key, why in best.items():
        worst.setdefault(key, []).extend(why)
    if len(worst) <= MOST_EXAMPLES:
        return worst
    chosen = [key for key in worst if key in best][: MOST_EXAMPLES // 3]
    chosen = [key for key in worst if key not in best][: MOST_EXAMPLES - len(chosen)] + chosen
    return {key: worst[key] for key in chosen}


def _paths(report: ScoreReport) -> dict[Picked, MatchedImage]:
    return {(method.name, image.name): image for method in report.methods for image in method.images}


def _examples(report: ScoreReport) -> Iterator[Example]:
    images = _paths(report)
    for (method, name), why in pick(report).items():
        image = images[method, name]
        try:
            picture = read_rgb8(image.path)
            reference = None if image.reference is None else read_rgb8(image.reference)
        except DataError:
            continue
        values = ", ".join(
            f"{metric.title} {figure(one.value, metric.digits)} {metric.unit}".rstrip()
            for metric in report.metrics
            for one in report.scores
            if (one.method, one.image, one.metric) == (method, name, metric.name)
        )
        cut = ""
        if max(picture.shape[:2]) > LARGEST_EXAMPLE:
            picture, reference, cut = _reduced(picture, reference)
        reasons = ", ".join(why)
        yield Example(reasons[0].upper() + reasons[1:], method, name, values, picture, reference, cut)


def _reduced(picture: Pixels, reference: Pixels | None) -> tuple[Pixels, Pixels | None, str]:
    """A window of a large pair where it differs most; a large picture alone is made smaller."""
    height, width = picture.shape[:2]
    if reference is None:
        scale = LARGEST_EXAMPLE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        return small, None, f"reduced from {width}x{height}"
    rows, columns = window_of(_error(picture, reference), WINDOW)
    description = (
        f"window at {columns.start}, {rows.start} of {width}x{height}, where the difference is largest"
    )
    return picture[rows, columns], reference[rows, columns], description


def _error(picture: Pixels, reference: Pixels) -> np.ndarray:
    """Squared difference over the channels, H x W."""
    return np.square(picture.astype(np.float32) - reference.astype(np.float32)).sum(-1)


def _spreads(report: ScoreReport) -> Iterator[Spread]:
    """The images on which methods differ most by the first telling metric."""
    telling = _telling(report)
    if len(report.methods) < 2 or not telling:
        return
    metric, images = telling[0], _paths(report)
    values: dict[str, dict[str, float]] = {}
    for one in report.scores:
        if one.metric == metric.name and math.isfinite(one.value):
            values.setdefault(one.image, {})[one.method] = one.value
    common = {name: found for name, found in values.items() if len(found) == len(report.methods)}
    spread = {name: max(found.values()) - min(found.values()) for name, found in common.items()}
    for name in sorted(spread, key=lambda name: (-spread[name], name))[:SPREADS]:
        labels = [
            f"{method}: {figure(value, metric.digits)} {metric.unit}".rstrip()
            for method, value in common[name].items()
        ]
        try:
            found = _side_by_side(labels, [images[method, name] for method in common[name]])
        except DataError:
            continue
        if found is not None:
            difference = f"{figure(spread[name], metric.digits)} {metric.unit}".rstrip()
            yield Spread(f"Methods differ by {difference} in {metric.title}", name, tuple(found[0]), found[1])


def _side_by_side(
    names: Sequence[str], images: Sequence[MatchedImage]
) -> tuple[list[tuple[str, Pixels]], str] | None:
    """The same window of each method, the reference first; None where their sizes differ."""
    pictures = [read_rgb8(image.path) for image in images]
    if len({picture.shape for picture in pictures}) > 1:
        return None
    labelled = list(zip(names, pictures, strict=True))
    path: Path | None = images[0].reference
    if path is not None:
        reference = read_rgb8(path)
        error = np.max([_error(picture, reference) for picture in pictures], axis=0)
        labelled.insert(0, ("reference", reference))
    else:
        stack = np.stack([picture.astype(np.float32).mean(-1) for picture in pictures])
        error = stack.var(0)
    rows, columns = window_of(error, SPREAD_WINDOW)
    height, width = pictures[0].shape[:2]
    cut = f"window at {columns.start}, {rows.start} of {width}x{height}, where they differ most"
    return [(name, picture[rows, columns]) for name, picture in labelled], cut
