"""Space: how good and how varied many super-resolutions of the same images are, and at which temperature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deflow_cli.checkpoints.hub import locate
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.data.samples.matching import SampledImage, SampleSet, SampleSource, match_samples, scale_of
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.metrics.quality.lpips import Lpips
from deflow_cli.metrics.space.measures import SpaceMeasure, space_measures
from deflow_cli.metrics.summary import Summary, summarize
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.progress import Reporter
from deflow_cli.runtime.seeding import derived_seed
from deflow_cli.workflows.space.measure import Instruments, SpaceFigures, measure_samples
from deflow_cli.workflows.space.temperature_map import TemperatureMap, map_temperatures

FEW = 10  # images; below, a bootstrap's interval is too narrow
BY_LPIPS = ("diversity", "lpips-mean", "lpips-best")
BY_SCALE = ("lr-psnr-mean", "lr-psnr-worst")


@dataclass(frozen=True)
class SpaceRequest:
    """What `deflow score --space` was asked for.

    sources: folders of samples, of one temperature each where one is given. reference: the true images. low:
    the inputs of the super-resolution; they tell the scale. scale: where there is no ``low``; None leaves
    LR-PSNR out. seed: of the bootstrap.
    """

    sources: tuple[SampleSource, ...]
    reference: Path
    low: Path | None = None
    scale: int | None = None
    lpips_weights: Path | None = None
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class SpaceScore:
    """One image at one temperature. temperature: None where the samples name none."""

    temperature: float | None
    image: SampledImage
    figures: SpaceFigures


@dataclass(frozen=True)
class SpaceSummary:
    """One measure at one temperature over the images."""

    temperature: float | None
    measure: str
    summary: Summary


@dataclass(frozen=True)
class MissingWeights:
    """Why there is no LPIPS, and what to do."""

    message: str
    next_step: str
    asked: bool


@dataclass(frozen=True)
class SpaceReport:
    """All figures about a space. maps: the best temperature at every pixel, where there are several."""

    request: SpaceRequest
    sets: tuple[SampleSet, ...]
    measures: tuple[SpaceMeasure, ...]
    scores: tuple[SpaceScore, ...]
    summaries: tuple[SpaceSummary, ...]
    maps: tuple[TemperatureMap, ...]
    scale: int | None
    missing: MissingWeights | None
    notes: tuple[str, ...]
    device: str

    @property
    def distance(self) -> str:
        """By which distance the best temperature was found and the growth of the score is shown."""
        return "spatial LPIPS" if self.missing is None else "squared error"

    @property
    def unreadable(self) -> list[str]:
        """Images that could not be read, each reason once."""
        return list(dict.fromkeys(one.figures.trouble for one in self.scores if one.figures.trouble))


@hears_remarks
def score_space(request: SpaceRequest, reporter: Reporter) -> SpaceReport:
    """Score all samples of all images; what cannot be read gets a note, and the rest is reported.

    Raises DeflowErrors for what should be mended first: names that fit no layout, missing samples or
    references, sizes that do not fit, a scale that is none.
    """
    if request.scale is not None and request.scale < 1:
        raise ConfigError(f"--scale is {request.scale}", next_step="use a whole number above 1")
    sets = match_samples(request.sources, request.reference, request.low)
    scale = _scale(request, sets)
    device = choose_device(request.device)
    lpips, missing = _lpips(request.lpips_weights, device)
    scores, maps = _measure_all(sets, Instruments(lpips, scale, device), reporter)
    measures = _measures(lpips is not None, scale is not None, request.low is not None)
    return SpaceReport(
        request=request,
        sets=sets,
        measures=measures,
        scores=scores,
        summaries=_summaries(sets, measures, scores, request.seed),
        maps=maps,
        scale=scale,
        missing=missing,
        notes=_notes(request, sets, measures, scores, scale),
        device=str(device),
    )


def _scale(request: SpaceRequest, sets: Sequence[SampleSet]) -> int | None:
    """The factor of LR-PSNR; None where it is not known, or 1, where low resolutions would tell nothing."""
    if request.low is None:
        return None if request.scale == 1 else request.scale
    found = scale_of(image for one in sets for image in one.images)
    if request.scale not in (None, found):
        raise ConfigError(
            f"--scale is {request.scale}, but {request.low} is {found} times smaller than the references",
            next_step="leave --scale out",
        )
    return None if found == 1 else found


def _lpips(weights: Path | None, device: torch.device) -> tuple[Lpips | None, MissingWeights | None]:
    try:
        return Lpips(locate("alexnet", weights, "--lpips-weights"), "alex", device), None
    except CheckpointError as error:
        return None, MissingWeights(str(error), error.next_step, weights is not None)


def _measures(with_lpips: bool, with_scale: bool, with_input: bool) -> tuple[SpaceMeasure, ...]:
    left_out: set[str] = set()
    left_out |= set() if with_lpips else set(BY_LPIPS)
    left_out |= set() if with_scale else {*BY_SCALE, "input-psnr"}
    left_out |= set() if with_input else {"input-psnr"}
    return tuple(measure for name, measure in space_measures().items() if name not in left_out)


def _measure_all(
    sets: Sequence[SampleSet], instruments: Instruments, reporter: Reporter
) -> tuple[tuple[SpaceScore, ...], tuple[TemperatureMap, ...]]:
    """Scores in the order of the sets and their images. All temperatures of an image are measured before the
    next image, so that the distance maps of one image alone are held."""
    found: dict[tuple[float | None, str], SpaceScore] = {}
    maps: list[TemperatureMap] = []
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        reporter.update(done)

    reporter.start("scoring samples", sum(one.samples * len(one.images) for one in sets))
    for image_sets in zip(*(one.images for one in sets), strict=True):
        distances: dict[float, Tensor] = {}
        for one, image in zip(sets, image_sets, strict=True):
            figures, distance = measure_samples(image, instruments, tick)
            found[one.temperature, image.name] = SpaceScore(one.temperature, image, figures)
            if one.temperature is not None and distance is not None:
                distances[one.temperature] = distance
        if len(distances) > 1:
            maps.append(map_temperatures(image_sets[0].name, distances))
    reporter.finish()
    return tuple(found[one.temperature, image.name] for one in sets for image in one.images), tuple(maps)


def _summaries(
    sets: Sequence[SampleSet], measures: Sequence[SpaceMeasure], scores: Sequence[SpaceScore], seed: int
) -> tuple[SpaceSummary, ...]:
    """Every measure at every temperature; all temperatures see the same resampled images."""
    rows = []
    for one in sets:
        of_set = [score.figures for score in scores if score.temperature == one.temperature]
        for measure in measures:
            values = np.array([figures.values.get(measure.name, np.nan) for figures in of_set])
            rng = np.random.default_rng(derived_seed(seed, "space", measure.name))
            rows.append(SpaceSummary(one.temperature, measure.name, summarize(values, rng)))
    return tuple(rows)


def _notes(
    request: SpaceRequest,
    sets: Sequence[SampleSet],
    measures: Sequence[SpaceMeasure],
    scores: Sequence[SpaceScore],
    scale: int | None,
) -> tuple[str, ...]:
    """What a reader of the figures must know."""
    counts = sorted({one.samples for one in sets})
    notes = []
    if not any(measure.name in BY_LPIPS for measure in measures):
        notes.append("without LPIPS's weights the diversity score is that of the squared error alone")
    if len(counts) > 1:
        words = ", ".join(
            f"{one.samples} at {one.temperature:g}" for one in sets if one.temperature is not None
        )
        notes.append(
            f"temperatures have different numbers of samples ({words}): more raise the diversity score"
        )
    if counts[0] == 1:
        notes.append("one sample of each image: without variety the diversity score is 0")
    if scale is None:
        why = (
            "the references are as large as the inputs"
            if request.low is not None or request.scale == 1
            else "it needs the inputs (--lq) or their scale (--scale)"
        )
        notes.append(f"LR-PSNR was left out: {why}")
    images = len(sets[0].images)
    if 1 < images < FEW:
        notes.append(f"intervals from {images} images are too narrow; they want {FEW} or more")
    unreadable = [one.image.name for one in scores if one.figures.trouble]
    if unreadable:
        notes.append(f"{len(unreadable)} of {len(scores)} could not be read and are in no figure")
    for measure in measures:
        values = [one.figures for one in scores if measure.name in one.figures.values]
        reasons = sorted({one.reasons[measure.name] for one in values if measure.name in one.reasons})
        if reasons:
            count = sum(measure.name in one.reasons for one in values)
            notes.append(f"{measure.title}: {count} of {len(values)} not defined: {'; '.join(reasons[:3])}")
        infinite = sum(bool(np.isinf(one.values[measure.name])) for one in values)
        if infinite:
            notes.append(f"{measure.title}: {infinite} of {len(values)} are infinite and not in the means")
    return tuple(notes)


def mean_over_images(
    report: SpaceReport, temperature: float | None, of: Callable[[SpaceFigures], tuple[float, ...]]
) -> tuple[float, ...]:
    """Equally long figures of every image at a temperature, averaged; empty where no image was read."""
    rows = [of(one.figures) for one in report.scores if one.temperature == temperature]
    found = [row for row in rows if row]
    return tuple(np.mean(found, axis=0).tolist()) if found else ()
