"""Translation page: a page about a network that DSGAN, DASR or CycleGAN trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deflow_cli.arrays import Pixels
from deflow_cli.reports.pages.fit_page import CaptionedPlot, Points, RealismPart, Sentence, smoothed
from deflow_cli.reports.pages.rendering import render_page
from deflow_cli.reports.pages.tables import Table
from deflow_cli.reports.svg.line_plots import Series, line_plot

_FEWEST_POINTS = 12  # of a curve that is smoothed


@dataclass(frozen=True)
class TranslationPage:
    """All that the page shows.

    previews: rows of labelled pictures: clean, degraded, the difference, real noisy. history: steps and
    values of each logged figure. configuration: TOML.
    """

    title: str
    verdict: Sequence[Sentence]
    facts: Mapping[str, str]
    notes: Sequence[str]
    previews: Sequence[Sequence[tuple[str, Pixels]]]
    history: Mapping[str, Points]
    configuration: str
    realism: RealismPart | None = None


def render_translation(page: TranslationPage) -> str:
    """The page as one HTML document that needs nothing else."""
    values = {
        "page": page,
        "realism": Table(*page.realism.table, notes=page.realism.notes) if page.realism else None,
        "curves": [_curve(name, points) for name, points in page.history.items() if len(points[0]) > 1],
    }
    return render_page("translation.html", page.title, "What it learnt, and what it does", values)


def _curve(name: str, points: Points) -> CaptionedPlot:
    steps, values = points
    series = [Series("raw", steps, values, dashed=True)]
    if len(steps) >= _FEWEST_POINTS:
        series.append(Series("smoothed", steps, smoothed(values)))
    return line_plot(series, x_label="step", y_label=name), ""
