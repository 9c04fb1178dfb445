"""Fit page: one page about a fitted model, for the person who decides whether to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deflow_cli.reports.pages.html import Page
from deflow_cli.reports.pages.tables import Cell
from deflow_cli.reports.svg.plots import Series, bar_plot, line_plot

Pixels = NDArray[np.uint8]
Severity = Literal["good", "note", "warn", "bad"]
Finding = tuple[Severity, str]
Figure = tuple[str, str]  # SVG and caption
Points = tuple[Sequence[float], Sequence[float]]  # steps and values

_FEWEST_SMOOTHED = 12  # points of a curve, below which it is shown as it is


@dataclass(frozen=True)
class RealismPart:
    """How real the degradations are. about: what was compared with what. sentences: for the verdict.

    table: columns and rows.
    """

    sentences: Sequence[Finding]
    table: tuple[Sequence[str], Sequence[Sequence[Cell]]]
    about: str = ""
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Preview:
    """One clean crop and what the model makes of it, as labelled pictures (uint8 H x W x 3).

    pictures: clean, samples over temperatures, a real noisy crop. residuals: what was added, made visible
    as ``residual_note`` says. pair: two samples at temperature 1.
    """

    caption: str
    pictures: Sequence[tuple[str, Pixels]]
    residuals: Sequence[tuple[str, Pixels]]
    residual_note: str
    pair: tuple[Pixels, Pixels]


@dataclass(frozen=True)
class Spectrum:
    """The shift of one latent. eigenvalues_kc: of M M^T, largest first; mean_norm_k: |mu_k|.

    detail_kept: share of the clean latents' variance that degraded ones keep.
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

    notes: what to know of the images shown. grain: rows of flat crops, the model's
    and real ones. strength: per temperature
    the RMS added, the fine grain in it, and the shift of red, green and blue, in grey levels. history: by
    the name of a logged figure. configuration: TOML.
    """

    title: str
    subtitle: str
    verdict: Sequence[Finding]
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
    document = Page(page.title, page.subtitle)
    document.heading("Verdict")
    for severity, sentence in page.verdict:
        document.callout(sentence, severity)
    document.heading("The model")
    document.facts(page.facts)
    _previews(document, page)
    if page.realism is not None:
        _realism(document, page.realism)
    _curves(document, page.history)
    _spectra(document, page.spectra)
    if len(page.components) > 1:
        _components(document, page.components)
    if page.configuration:
        document.heading("Configuration")
        document.details("Every value of the run (TOML)", page.configuration)
    return document.render()


def _previews(document: Page, page: FitPage) -> None:
    """Crops over temperatures, what was added to them, and two samples of the first."""
    document.heading("What it does")
    for note in page.notes:
        document.callout(note, "note")
    if not page.previews:
        return
    document.text(
        "Each clean crop and its degradations at several temperatures: 1 is what was learnt, 0 its mean "
        "without randomness, and all of a row share their noise. Below, what each added: it should be grain, "
        "with no trace of the picture's edges."
        + (" The real crop is of another scene." if page.grain else "")
    )
    for preview in page.previews:
        document.pictures(preview.pictures, preview.caption)
        document.pictures(preview.residuals, preview.residual_note)
    if page.grain:
        document.heading("Grain, the model's and the real one", 3)
        document.text(
            "High-passed and amplified as above; the model's noise alone, and the flattest spots of real "
            "images. Size, colour and strength of the grain should be alike. Strength may follow brightness, "
            "so compare several."
        )
        for row in page.grain:
            document.pictures(row, scale=2)
    document.heading("Two samples of one picture", 3)
    document.text(
        "Both at temperature 1. Their difference should be grain without any trace of the picture: if it is "
        "flat grey, the model has no randomness; if edges show, it changes the content at random."
    )
    first, second = page.previews[0].pair
    document.compare("sample 1", first, "sample 2", second)
    document.heading("How strong at which temperature", 3)
    columns = ("temperature", "added, RMS", "of it fine grain", "red", "green", "blue")
    note = (
        "Grey levels of 255, mean over the crops above. Fine grain: the std of what is added after a "
        "high-pass. Red, green, blue: by how much the mean colour moves."
    )
    document.table(columns, page.strength, notes=[note], digits=[1, 2, 2, 2, 2, 2])


def _realism(document: Page, part: RealismPart) -> None:
    document.heading("How real it is")
    document.text(part.about)
    document.figures(part.figures)
    document.table(*part.table, notes=part.notes)


def _curves(document: Page, history: Mapping[str, Points]) -> None:
    """Bits per dimension of both domains, then rate and gradient; nothing without a log."""
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
    if plots:
        document.heading("Training")
        document.text(
            "Bits per dimension: what a colour value of a picture costs the model; lower is better."
        )
        document.figures(plots)


def _bits_plot(domain: str, history: Mapping[str, Points], wish: str) -> Figure | None:
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
    own = np.minimum(reach, np.minimum(places, len(found) - 1 - places))
    sums = np.concatenate(([0.0], np.cumsum(found)))
    return (sums[places + own + 1] - sums[places - own]) / (2 * own + 1)


def _without_outliers(values: Sequence[float], held: Sequence[float]) -> tuple[float, float] | None:
    """A range that the first steps and spikes do not flatten; None where all fits."""
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    if len(found) < _FEWEST_SMOOTHED:
        return None
    low, high = float(found.min()), float(np.quantile(found[len(found) // 20 :], 0.98))
    low, high = min([low, *held]), max([high, *held])
    room = 0.06 * max(high - low, 1e-3)
    return None if found.max() <= high + room else (low - room, high + room)


def _spectra(document: Page, spectra: Sequence[Spectrum]) -> None:
    """The shift of each latent: eigenvalues as curves, means and ranks as a table."""
    if not spectra:
        return
    document.heading("The learnt shift")
    document.text(
        "Noisy images differ from clean ones by a mean and a covariance M Mᵀ in each latent of the flow. An "
        "eigenvalue of 1 is as much spread as the clean images' own latent has; large ones are directions in "
        "which the degradation is strong. Detail kept is the share of the clean latent's variance that "
        "blur or compression leaves. The finest latent holds the grain, the coarsest colour and "
        "blotches."
    )
    plots = []
    for spectrum in spectra:
        series = [
            Series(_component_name(k, len(spectrum.eigenvalues_kc)), list(range(1, len(row) + 1)), row)
            for k, row in enumerate(spectrum.eigenvalues_kc)
        ]
        drawn = line_plot(
            series,
            x_label="eigenvalue, by size",
            y_label="eigenvalue of M Mᵀ",
            title=spectrum.name,
            log_y=True,
        )
        plots.append((drawn, ""))
    document.figures(plots)
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
    columns = (
        "latent",
        "component",
        "|mean|",
        "largest eigenvalue",
        "trace",
        "effective rank",
        "detail kept",
    )
    document.table(columns, rows, digits=[None, None, 3, 3, 2, 1, 2])


def _component_name(k: int, count: int) -> str:
    return f"component {k + 1}" if count > 1 else ""


def _components(document: Page, components: Sequence[Component]) -> None:
    """A mixture: how likely each component is, what it does, and images it stands for."""
    document.heading("Mixture")
    document.text(
        "Each component is a degradation of its own; a sample takes one of them by these weights. Examples "
        "are real noisy images that the fit sorted to it."
    )
    weights = [(f"component {k + 1}", one.weight, None, None) for k, one in enumerate(components)]
    document.figure(bar_plot(weights, x_label="weight", title="Weights"))
    drawn = [(f"component {k + 1}", one.sample) for k, one in enumerate(components) if one.sample is not None]
    if drawn:
        document.pictures(drawn, "One crop by each component, at temperature 1.")
    for k, one in enumerate(components):
        if one.examples:
            document.pictures(one.examples, f"Real images of component {k + 1}.")
