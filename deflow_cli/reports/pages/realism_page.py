"""Realism page: how real synthetic degradations are, in sentences, figures, curves and crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Pixels
from deflow_cli.reports.pages.rendering import CalloutKind, render_page
from deflow_cli.reports.pages.tables import Cell, Table
from deflow_cli.reports.svg.categorical_plots import strip_plot
from deflow_cli.reports.svg.heatmap import heatmap
from deflow_cli.reports.svg.line_plots import Series, histogram_plot, line_plot

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseCurves:
    """The noise of one set of images as it is plotted, in grey levels.

    spectrum_db: radial power on 0..0.5 cycles per pixel, over one level squared. histogram: counts of the
    levels -255..255. level: std in each of 16 bins of luma, NaN for empty bins. autocorrelation: 9 x 9 lags.
    stds: one for each picture. std_interval: 95 % confidence interval of their mean.
    """

    name: str
    spectrum_db: Floats
    histogram: NDArray[np.int64]
    level: Floats
    autocorrelation: Floats
    stds: Floats
    std_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class CropRow:
    """Crops of one scene, or of two scenes if the sets share none; and their noise, amplified."""

    caption: str
    pictures: Sequence[tuple[str, Pixels]]


@dataclass(frozen=True)
class SyntheticPart:
    """One synthetic set: its sentences, what was left out, its figures, and crops beside real ones."""

    name: str
    sentences: Sequence[tuple[CalloutKind, str]]
    left_out: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    crops: Sequence[CropRow] = ()


@dataclass(frozen=True)
class RealismPage:
    """All that the page shows. curves: the real set's first. kind: what the curves are measured on."""

    title: str
    subtitle: str
    facts: Mapping[str, str]
    kind: str
    curves: Sequence[NoiseCurves]
    parts: Sequence[SyntheticPart]
    columns: Sequence[str]
    summary: tuple[Sequence[str], Sequence[Sequence[Cell]]] | None = None
    notes: Sequence[str] = field(default=())


def render_realism(page: RealismPage) -> str:
    """The page as one HTML document that needs nothing else."""
    values = {
        "page": page,
        "summary": Table(*page.summary, notes=page.notes) if page.summary is not None else None,
        "noise_figures": noise_figures(page.curves),
        "autocorrelation_maps": autocorrelation_maps(page.curves),
        "tables": [Table(page.columns, part.rows, notes=page.notes) for part in page.parts],
    }
    return render_page("realism.html", page.title, page.subtitle, values)


def noise_figures(curves: Sequence[NoiseCurves]) -> list[tuple[str, str]]:
    """Spectrum, level by brightness, histogram, spread over pictures: (SVG, caption) each."""
    return [
        (
            line_plot(
                [Series(c.name, _centres(len(c.spectrum_db), 0.5), c.spectrum_db) for c in curves],
                x_label="cycles per pixel",
                y_label="dB over one grey level²",
                title="Power spectrum",
            ),
            "Falling to the right: coarse grain; level: white noise. Channels averaged.",
        ),
        (
            line_plot(
                [Series(c.name, _centres(len(c.level), 255.0), c.level) for c in curves],
                x_label="brightness (grey level)",
                y_label="std (grey levels)",
                title="Noise level by brightness",
            ),
            "How strong the noise is in shadows (left) and highlights (right).",
        ),
        (_histogram(curves), "Noise values over all channels, each set's counts as shares."),
        (
            strip_plot(
                [(c.name, c.stds.tolist()) for c in curves],
                x_label="std (grey levels)",
                title="Noise level, picture by picture",
                intervals=[c.std_interval for c in curves],
            ),
            "A dot is a picture: a model of one strength has its dots together.",
        ),
    ]


def autocorrelation_maps(curves: Sequence[NoiseCurves]) -> list[tuple[str, str]]:
    """The 9 x 9 autocorrelation of each set, channels averaged: (SVG, caption)."""
    lags = [str(lag) for lag in range(-4, 5)]
    maps = []
    for number, curve in enumerate(curves):
        values = curve.autocorrelation.copy()
        values[4, 4] = np.nan  # 1 by definition; it would dominate the other lags
        drawn = heatmap(
            values,
            title=f"Autocorrelation: {curve.name}",
            x_label="right (px)",
            y_label="down (px)",
            limits=(-0.5, 0.5),
            cells=True,
            x_ticks=lags,
            y_ticks=lags,
        )
        caption = "How alike a pixel's noise is to its neighbours'." if number == 0 else ""
        maps.append((drawn, caption))
    return maps


def _histogram(curves: Sequence[NoiseCurves]) -> str:
    """Histograms within four standard deviations of the widest set, or 16 levels."""
    widest = max(float(np.nanmedian(curve.stds)) for curve in curves)
    reach = int(np.clip(np.ceil(4.0 * widest), 16, 255))
    step = max(1, reach // 24)
    reach -= reach % step
    edges = np.arange(-reach, reach + 1, step) - 0.5
    named = []
    for curve in curves:
        counts = curve.histogram[255 - reach : 255 + reach]
        named.append((curve.name, counts.reshape(-1, step).sum(axis=1).tolist()))
    return histogram_plot(
        edges.tolist(), named, x_label="noise (grey levels)", y_label="share", title="Noise values"
    )


def _centres(count: int, end: float) -> Floats:
    """Middles of equal bins from 0 to an end."""
    return (np.arange(count) + 0.5) * end / count
