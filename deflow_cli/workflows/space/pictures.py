"""Pictures: the images on the page of a space, as windows in which their samples differ most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from deflow_cli.arrays import Array, Pixels
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.errors import DataError
from deflow_cli.reports.pages.pictures import window_of
from deflow_cli.reports.pages.space_page import SamplePicture, SpaceExample, space_page, temperature_label
from deflow_cli.workflows.space.document import space_document
from deflow_cli.workflows.space.measure import SampleFigures
from deflow_cli.workflows.space.run import SpaceReport, SpaceScore
from deflow_cli.workflows.space.temperature_map import temperature_colours

SHOWN_IMAGES = 5
SHOWN_SAMPLES = 42  # of one image, all temperatures together: the page has to load on a phone
SAMPLES_SIDE = 248  # px of a window; four of them stand side by side on a page


def space_html(report: SpaceReport) -> str:
    """The page of a report. Images that cannot be read are left out; their reasons stand in the page."""
    temperatures = sorted({temperature for one in report.maps for temperature in one.temperatures})
    colours = temperature_colours(len(temperatures)) if temperatures else []
    return space_page(space_document(report), list(_examples(report)), colours)


def pick_images(report: SpaceReport) -> list[tuple[str, str]]:
    """Which images to show and why: from the least to the most diverse, evenly spaced.

    Diversity is the mean over temperatures of the score, by LPIPS where it is known.
    """
    name = "diversity" if report.missing is None else "diversity-error"
    found: dict[str, list[float]] = {}
    for one in report.scores:
        value = one.figures.values.get(name, math.nan)
        found.setdefault(one.image.name, []).append(-1.0 if math.isnan(value) else value)
    ranked = sorted(found, key=lambda image: (float(np.mean(found[image])), image))
    places = np.unique(np.linspace(0, len(ranked) - 1, min(SHOWN_IMAGES, len(ranked))).round().astype(int))
    chosen = [ranked[place] for place in places]
    why = ["Between them"] * len(chosen)
    why[0], why[-1] = "Least diverse", "Most diverse"
    return list(zip(chosen, why if len(chosen) > 1 else ["Image"], strict=True))


def _examples(report: SpaceReport) -> Iterator[SpaceExample]:
    for name, why in pick_images(report):
        scores = [one for one in report.scores if one.image.name == name and not one.figures.trouble]
        if not scores:
            continue
        try:
            yield _example(report, name, why, scores)
        except DataError:
            continue


def _example(report: SpaceReport, name: str, why: str, scores: Sequence[SpaceScore]) -> SpaceExample:
    """An image with at most SHOWN_SAMPLES of its samples, as many of every temperature."""
    each = max(1, SHOWN_SAMPLES // len(scores))
    truth = read_rgb8(scores[0].image.reference)
    whole = [
        (score, number, read_rgb8(figures.path), figures)
        for score in scores
        for number, figures in enumerate(score.figures.samples[:each], start=1)
    ]
    height = min(truth.shape[0], *(pixels.shape[0] for _, _, pixels, _ in whole))
    width = min(truth.shape[1], *(pixels.shape[1] for _, _, pixels, _ in whole))
    rows, columns = window_of(_variance([pixels[:height, :width] for _, _, pixels, _ in whole]), SAMPLES_SIDE)
    window = rows, columns
    low = scores[0].image.low
    best = next((one for one in report.maps if one.image == name), None)
    cut = ""
    if (rows.stop - rows.start, columns.stop - columns.start) != (height, width):
        cut = f"window at {columns.start}, {rows.start} of {width}x{height}, where the samples vary most"
    pictures = [
        SamplePicture(
            temperature_label(score.temperature),
            f"{number} of {len(score.figures.samples)}",
            _in_words(figures),
            pixels[window],
        )
        for score, number, pixels, figures in whole
    ]
    return SpaceExample(
        why,
        name,
        truth[window],
        tuple(pictures),
        None if low is None or report.scale is None else _enlarged(read_rgb8(low), report.scale)[window],
        None if best is None else _padded(best.picture(), height, width)[window],
        cut,
    )


def _variance(samples: Sequence[Pixels]) -> Array:
    """Variance over samples, summed over channels: H x W. A single sample varies nowhere."""
    total, squares = (np.zeros(samples[0].shape[:2]) for _ in range(2))
    variance = np.zeros(samples[0].shape[:2])
    for channel in range(3):
        total[:], squares[:] = 0, 0
        for sample in samples:
            values = sample[..., channel].astype(np.float64)
            total += values
            squares += values**2
        variance += squares / len(samples) - (total / len(samples)) ** 2
    return variance.clip(0)


def _enlarged(low: Pixels, scale: int) -> Pixels:
    """Each pixel of the input as a square, so that its grid is seen."""
    return low.repeat(scale, axis=0).repeat(scale, axis=1)


def _padded(picture: Pixels, height: int, width: int) -> Pixels:
    """The map, which covers the cropped truth, with its edge repeated up to the size of the samples."""
    rest = max(height - picture.shape[0], 0), max(width - picture.shape[1], 0)
    return np.pad(picture, ((0, rest[0]), (0, rest[1]), (0, 0)), mode="edge")


def _in_words(figures: SampleFigures) -> str:
    """``LPIPS 0.1234, PSNR 27.10 dB, LR-PSNR 48.20 dB``"""
    words = [] if math.isnan(figures.plain_lpips) else [f"LPIPS {figures.plain_lpips:.4f}"]
    words.append(f"PSNR {figures.psnr:.2f} dB")
    if not math.isnan(figures.lr_psnr):
        words.append(f"LR-PSNR {figures.lr_psnr:.2f} dB")
    return ", ".join(words).replace("inf", "∞")
