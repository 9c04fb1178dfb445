"""Score: how good the images of methods are, with intervals, ranks, and the variant of every metric."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deflow_cli import __version__
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.data.reference_matching import MethodImages, match_references, missing_names
from deflow_cli.errors import ConfigError
from deflow_cli.metrics.base import Metric
from deflow_cli.metrics.options import PROTOCOLS, ScorerOptions
from deflow_cli.metrics.summary import (
    RESAMPLES,
    Comparison,
    Difference,
    Summary,
    compare_methods,
    mean_ranks,
    summarize,
)
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.progress import Reporter
from deflow_cli.runtime.seeding import derived_seed
from deflow_cli.workflows.score.measure import ImageScore, score_images
from deflow_cli.workflows.score.scorers import MissingMetric, build_scorers, choose_metrics

CSV_COLUMNS = ("method", "image", "metric", "value", "reason", "variant")
FEW_IMAGES = 10  # below, a bootstrap's interval is too narrow


@dataclass(frozen=True)
class ScoreRequest:
    """What `deflow score` was asked for.

    outputs: folders or single images, a method each. metrics: names; empty for all that apply. pairing:
    ``name`` or ``order``. seed: of the bootstrap.
    """

    outputs: tuple[Path, ...]
    reference: Path | None = None
    metrics: tuple[str, ...] = ()
    options: ScorerOptions = dataclasses.field(default_factory=ScorerOptions)
    pairing: str = "name"
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class MethodSummary:
    """One method on one metric. rank, difference (to the best): where several methods are compared."""

    method: str
    metric: str
    summary: Summary
    rank: int | None = None
    difference: Difference | None = None


@dataclass(frozen=True)
class ScoreReport:
    """All values and what they say. unavailable: metrics that could not be had; asked_in_vain: those of them
    that had been asked for by name or file. best: per metric the best method and the images compared."""

    request: ScoreRequest
    metrics: tuple[Metric, ...]
    methods: tuple[MethodImages, ...]
    scores: tuple[ImageScore, ...]
    summaries: tuple[MethodSummary, ...]
    best: dict[str, tuple[str, int]]
    mean_ranks: dict[str, float | None]
    unavailable: tuple[MissingMetric, ...]
    asked_in_vain: frozenset[str]
    notes: tuple[str, ...]
    device: str

    @property
    def unreadable(self) -> list[tuple[Path, str]]:
        """Images that could not be read (or whose reference could not), each once, with the reason."""
        paths = {(m.name, image.name): image.path for m in self.methods for image in m.images}
        found = {paths[s.method, s.image]: s.reason for s in reversed(self.scores) if not s.readable}
        return sorted(found.items())

    def as_dict(self) -> dict[str, Any]:
        """The whole report as plain values; NaN and infinity as they are."""
        options, protocol = self.request.options, PROTOCOLS[self.request.options.protocol]
        return {
            "version": __version__,
            "protocol": {
                "name": protocol.name,
                "text": protocol.text,
                "crop_border": options.border,
                "color": "y" if options.luma else "rgb",
            },
            "reference": None if self.request.reference is None else str(self.request.reference),
            "pairing": self.request.pairing,
            "device": self.device,
            "seed": self.request.seed,
            "resamples": RESAMPLES,
            "metrics": [dataclasses.asdict(metric) for metric in self.metrics],
            "methods": [
                {
                    "name": method.name,
                    "source": str(method.source),
                    "images": len(method.images),
                    "mean_rank": self.mean_ranks.get(method.name),
                }
                for method in self.methods
            ],
            "best": {
                metric: {"method": name, "images_compared": n} for metric, (name, n) in self.best.items()
            },
            "summaries": [_summary_row(row) for row in self.summaries],
            "images": [
                {
                    "method": score.method,
                    "image": score.image,
                    "metric": score.metric,
                    "value": score.value,
                    "infinite": math.isinf(score.value),
                    "reason": score.reason,
                }
                for score in self.scores
            ],
            "unavailable": [dataclasses.asdict(missing) for missing in self.unavailable],
            "notes": list(self.notes),
        }


def _summary_row(row: MethodSummary) -> dict[str, Any]:
    difference = None if row.difference is None else dataclasses.asdict(row.difference)
    return {
        "method": row.method,
        "metric": row.metric,
        **dataclasses.asdict(row.summary),
        "rank": row.rank,
        "difference_to_best": difference,
    }


@hears_remarks
def score(request: ScoreRequest, reporter: Reporter) -> ScoreReport:
    """Score all images; what cannot be read or is not defined gets a note, and the rest is reported.

    Raises DeflowErrors for what should be mended first: images without partners or of other sizes, options
    that do not fit.
    """
    if not request.outputs:
        raise ConfigError("nothing to score", next_step="pass a folder of images")
    if request.options.crop_border is not None and request.options.crop_border < 0:
        raise ConfigError(f"crop border is {request.options.crop_border}", next_step="use 0 or more pixels")
    names = choose_metrics(request.metrics, request.reference is not None, request.options)
    methods = match_references(request.outputs, request.reference, request.pairing)
    device = choose_device(request.device)
    scorers, missing = build_scorers(names, request.options, device)
    metrics = tuple(scorer.metric for scorer in scorers)
    unpaired = missing_names(methods)
    for line in unpaired:
        reporter.warn(line)
    found = score_images(methods, scorers, device, reporter) if scorers else []
    values = _by_metric(found)
    summaries: list[MethodSummary] = []
    best: dict[str, tuple[str, int]] = {}
    for metric in metrics:
        rows, comparison = _summarize(metric, methods, values, request.seed, comparable=not unpaired)
        summaries += rows
        if comparison.best is not None:
            best[metric.name] = methods[comparison.best].name, comparison.n
    return ScoreReport(
        request=request,
        metrics=metrics,
        methods=methods,
        scores=tuple(found),
        summaries=tuple(summaries),
        best=best,
        mean_ranks=_mean_ranks(methods, metrics, summaries, best),
        unavailable=tuple(missing),
        asked_in_vain=frozenset(m.metric for m in missing) & _asked(request, names),
        notes=_notes(methods, metrics, found, unpaired),
        device=str(device),
    )


def _asked(request: ScoreRequest, names: Sequence[str]) -> set[str]:
    """Metrics that were asked for: by name, or by the file they need."""
    options = request.options
    asked = set(names) if request.metrics else set()
    if options.brisque_model is not None:
        asked.add("brisque")
    if options.niqe_model is not None:
        asked.add("niqe")
    if options.lpips_weights is not None:
        asked |= {"lpips", "lpips-vgg"}
    return asked


_Values = dict[tuple[str, str], dict[str, float]]  # by metric and method, then image


def _by_metric(scores: Sequence[ImageScore]) -> _Values:
    values: _Values = {}
    for one in scores:
        values.setdefault((one.metric, one.method), {})[one.image] = one.value
    return values


def _summarize(
    metric: Metric, methods: Sequence[MethodImages], values: _Values, seed: int, comparable: bool
) -> tuple[list[MethodSummary], Comparison]:
    """Each method's summary, and their comparison where they hold the same images."""

    def random() -> np.random.Generator:  # anew each time: every method sees the same resampled images
        return np.random.default_rng(derived_seed(seed, "score", metric.name))

    columns = [
        np.array([values[metric.name, method.name][image.name] for image in method.images])
        for method in methods
    ]
    summaries = [summarize(column, random()) for column in columns]
    if comparable and len(methods) > 1 and len(columns[0]) > 1:
        order = [np.argsort([image.name for image in method.images]) for method in methods]
        table = np.stack([column[by_name] for column, by_name in zip(columns, order, strict=True)])
        compared = compare_methods(table, metric.higher_is_better, random())
    else:
        nothing = (None,) * len(methods)
        compared = Comparison(None, nothing, nothing, 0)
    rows = [
        MethodSummary(method.name, metric.name, summaries[k], compared.ranks[k], compared.differences[k])
        for k, method in enumerate(methods)
    ]
    return rows, compared


def _mean_ranks(
    methods: Sequence[MethodImages],
    metrics: Sequence[Metric],
    summaries: Sequence[MethodSummary],
    best: dict[str, tuple[str, int]],
) -> dict[str, float | None]:
    if not best:
        return {}
    ranks = {(row.metric, row.method): row.rank for row in summaries}
    table = [[ranks[metric.name, method.name] for method in methods] for metric in metrics]
    return dict(zip((method.name for method in methods), mean_ranks(table), strict=True))


def _notes(
    methods: Sequence[MethodImages],
    metrics: Sequence[Metric],
    scores: Sequence[ImageScore],
    unpaired: Sequence[str],
) -> tuple[str, ...]:
    """What a reader of the figures must know."""
    notes = [f"not compared, the methods hold different images: {'; '.join(unpaired)}"] if unpaired else []
    unreadable = {(one.method, one.image): one.reason for one in reversed(scores) if not one.readable}
    if unreadable:
        (method, image), reason = sorted(unreadable.items())[0]
        rest = f"; and {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
        count = f"{len(unreadable)} image{'s' if len(unreadable) > 1 else ''}"
        notes.append(f"{count} could not be read: {method}: {image}: {reason}{rest}")
    most = max(len(method.images) for method in methods)
    few = [len(method.images) for method in methods if 1 < len(method.images) < FEW_IMAGES]
    if few:
        notes.append(f"intervals from {min(few)} images are too narrow; they want {FEW_IMAGES} or more")
    if len(methods) > 1 and most == 1:
        notes.append("one image per method: no intervals and no ranks")
    for metric in metrics:
        values = [one for one in scores if one.metric == metric.name]
        infinite = sum(math.isinf(one.value) for one in values)
        if infinite:
            notes.append(
                f"{metric.title}: {infinite} of {len(values)} values are infinite (images equal to their"
                " references) and not in the means"
            )
        reasons = Counter(one.reason for one in values if math.isnan(one.value) and one.readable)
        listed = [f"{reason} ({count})" for reason, count in reasons.most_common(3)]
        if listed:
            more = f" and {len(reasons) - 3} other reasons" if len(reasons) > 3 else ""
            notes.append(
                f"{metric.title}: {reasons.total()} of {len(values)} values are not defined and not in the"
                f" means: {'; '.join(listed)}{more}"
            )
    return tuple(notes)


def csv_text(report: ScoreReport) -> str:
    """One line per method, image and metric; full precision, ``inf`` for infinity, empty where undefined."""
    variants = {metric.name: metric.variant for metric in report.metrics}
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for one in report.scores:
        value = "" if math.isnan(one.value) else repr(float(one.value))
        reason = " ".join(one.reason.split())
        writer.writerow([one.method, one.image, one.metric, value, reason, variants[one.metric]])
    return buffer.getvalue()
