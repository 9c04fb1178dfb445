"""Fit page: one page about a fitted model of any method, for the person who decides whether to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Pixels
from deflow_cli.reports.pages.rendering import CalloutKind, render_page
from deflow_cli.reports.pages.tables import Cell, Table
from deflow_cli.reports.svg.categorical_plots import bar_plot
from deflow_cli.reports.svg.line_plots import Series, line_plot

Sentence = tuple[CalloutKind, str]
CaptionedPlot = tuple[str, str]  # SVG and caption
Points = tuple[Sequence[float], Sequence[float]]  # steps and values

_FEWEST_SMOOTHED = 12  # curves of fewer points are shown without smoothing


@dataclass(frozen=True)
class RealismPart:
    """How real the degradations are. about: what was compared with what. sentences: join the verdict.

    table: columns and rows.
    """

    sentences: Sequence[Sentence]
    table: tuple[Sequence[str], Sequence[Sequence[Cell]]]
    about: str = ""
    figures: Sequence[CaptionedPlot] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Preview:
    """One clean crop and its degradations by the model, as labelled pictures (uint8 H x W x 3).

    pictures: the clean crop, samples at several temperatures, a real noisy crop. residuals: what was added,
    amplified as ``residual_note`` says. pair: two samples at temperature 1.
    """

    caption: str
    pictures: Sequence[tuple[str, Pixels]]
    residuals: Sequence[tuple[str, Pixels]]
    residual_note: str
    pair: tuple[Pixels, Pixels]


@dataclass(frozen=True)
class Spectrum:
    """The shift of one latent, for each component k of the mixture.

    eigenvalues_kc: of M M^T, largest first. mean_norm_k: |mu_k|. detail_kept: share of the clean latents'
    variance that degraded ones keep.
    """

    name: str
    eigenvalues_kc: Sequence[Sequence[float]]
    mean_norm_k: Sequence[float]
    effective_rank_k: Sequence[float]
    detail_kept: float = 1.0


@dataclass(frozen=True)
class Component:
    """One component of a mixture: its weight, its sample of the first crop, crops of its noisy images."""

    weight: float
    sample: Pixels | None = None
    examples: Sequence[tuple[str, Pixels]] = ()


@dataclass(frozen=True)
class FitPage:
    """All that the page shows.

    notes: what a reader must know about the images shown. grain: rows of flat crops, the model's and real
    ones. strength: for each temperature the RMS of what is added, the fine grain in it, and the shift of red,
    green and blue, in grey levels. history: steps and values of each logged figure. configuration: TOML.
    """

    title: str
    subtitle: str
    verdict: Sequence[Sentence]
    facts: Mapping[str, str]
    notes: Sequence[str]
    previews: Sequence[Preview]
    grain: Sequence[Sequence[tuple[str, Pixels]]]
    strength: Sequence[Sequence[Cell]]
    history: Mapping[str, Points]
    spectra: Sequence[Spectrum]
    components: Sequence[Component]
    configuration: str
    realism: RealismPart | None = None


def render_fit(page: FitPage) -> str:
    """The page as one HTML document that needs nothing else."""
    mixture = len(page.components) > 1
    values = {
        "page": page,
        "strength": _strength(page),
        "realism": Table(*page.realism.table, notes=page.realism.notes) if page.realism else None,
        "curves": _curves(page.history),
        "eigenvalues": [_eigenvalue_plot(spectrum) for spectrum in page.spectra],
        "shift": _shift_table(page.spectra),
        "weights": _weights_plot(page.components) if mixture else "",
        "component_samples": [
            (f"component {k + 1}", one.sample)
            for k, one in enumerate(page.components)
            if one.sample is not None
        ],
    }
    return render_page("fit.html", page.title, page.subtitle, values)


def _strength(page: FitPage) -> Table:
    columns = ("temperature", "added, RMS", "of it fine grain", "red", "green", "blue")
    note = (
        "Grey levels of 255, mean over the crops above. Fine grain: the std of what is added after a "
        "high-pass. Red, green, blue: by how much the mean colour moves."
    )
    return Table(columns, page.strength, notes=[note], digits=[1, 2, 2, 2, 2, 2])


def _curves(history: Mapping[str, Points]) -> list[CaptionedPlot]:
    """Bits per dimension of both domains, then learning rate and gradient norm; empty without a log."""
    plots = [
        plot
        for domain, wish in (
            ("clean", "Falling: the flow gets to know clean pictures."),
            ("noisy", "Falling: the shift in the latent explains the noise."),
            ("pairs", "Of noisy pictures given their clean partners."),
        )
        if (plot := _bits_plot(domain, history, wish)) is not None
    ]
    for name, title, wish, log_y in (
        ("rate", "learning rate", "The schedule, with what non-finite steps took off.", False),
        ("gradient_norm", "gradient norm", "Steady or falling is healthy; spikes ask for clipping.", True),
    ):
        if len(history.get(name, ((), ()))[0]) > 1:
            svg = line_plot([Series("", *history[name])], x_label="step", y_label=title, log_y=log_y)
            plots.append((svg, wish))
    return plots


def _bits_plot(domain: str, history: Mapping[str, Points], wish: str) -> CaptionedPlot | None:
    """Raw, smoothed and held-out bits of a domain."""
    steps, values = history.get(domain, ((), ()))
    held = history.get(f"held_out_{domain}", ((), ()))
    if len(steps) < 2:
        return None
    series = [Series("raw", steps, values, dashed=True)]
    smooth = smoothed(values)
    if len(steps) >= _FEWEST_SMOOTHED:
        series.append(Series("smoothed", steps, smooth))
    if len(held[0]):
        series.append(Series("held out", *held))
    svg = line_plot(
        series,
        x_label="step",
        y_label="bits per dimension",
        title=f"{domain.capitalize()} images",
        y_range=_without_outliers(values, held[1]),
    )
    return svg, wish


def smoothed(values: Sequence[float]) -> NDArray[np.float64]:
    """A centred moving mean over a fifteenth of the points (at least 5), shorter towards the ends."""
    found = np.asarray(values, dtype=np.float64)
    reach = max(2, len(found) // 30)
    places = np.arange(len(found))
    reaches = np.minimum(reach, np.minimum(places, len(found) - 1 - places))
    sums = np.concatenate(([0.0], np.cumsum(found)))
    return (sums[places + reaches + 1] - sums[places - reaches]) / (2 * reaches + 1)


def _without_outliers(values: Sequence[float], held: Sequence[float]) -> tuple[float, float] | None:
    """A range of the vertical axis in which the first steps and spikes do not flatten the rest; None for
    the full range."""
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    if len(found) < _FEWEST_SMOOTHED:
        return None
    low, high = float(found.min()), float(np.quantile(found[len(found) // 20 :], 0.98))
    low, high = min([low, *held]), max([high, *held])
    room = 0.06 * max(high - low, 1e-3)
    return None if found.max() <= high + room else (low - room, high + room)


def _eigenvalue_plot(spectrum: Spectrum) -> CaptionedPlot:
    count = len(spectrum.eigenvalues_kc)
    series = [
        Series(_component_name(k, count), list(range(1, len(row) + 1)), row)
        for k, row in enumerate(spectrum.eigenvalues_kc)
    ]
    svg = line_plot(
        series,
        x_label="eigenvalue, by size",
        y_label="eigenvalue of M Mᵀ",
        title=spectrum.name,
        log_y=True,
    )
    return svg, ""


def _shift_table(spectra: Sequence[Spectrum]) -> Table:
    """Means, eigenvalues and ranks of the shift, a row for each latent and component."""
    columns = (
        "latent",
        "component",
        "|mean|",
        "largest eigenvalue",
        "trace",
        "effective rank",
        "detail kept",
    )
    rows: list[list[Cell]] = [
        [
            spectrum.name,
            _component_name(k, len(spectrum.eigenvalues_kc)) or "–",
            spectrum.mean_norm_k[k],
            float(values[0]),
            float(sum(values)),
            spectrum.effective_rank_k[k],
            spectrum.detail_kept,
        ]
        for spectrum in spectra
        for k, values in enumerate(spectrum.eigenvalues_kc)
    ]
    return Table(columns, rows, digits=[None, None, 3, 3, 2, 1, 2])


def _component_name(k: int, count: int) -> str:
    return f"component {k + 1}" if count > 1 else ""


def _weights_plot(components: Sequence[Component]) -> str:
    weights = [(f"component {k + 1}", one.weight, None, None) for k, one in enumerate(components)]
    return bar_plot(weights, x_label="weight", title="Weights")


# -- models of other methods ---------------------------------------------------------------------------------


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
    if len(steps) >= _FEWEST_SMOOTHED:
        series.append(Series("smoothed", steps, smoothed(values)))
    return line_plot(series, x_label="step", y_label=name), ""
