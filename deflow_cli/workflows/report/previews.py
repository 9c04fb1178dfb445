"""Report previews: crops over temperatures beside real ones, and what was added made visible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Pixels
from deflow_cli.errors import DeflowError
from deflow_cli.metrics.filters import high_pass
from deflow_cli.reports.contact_sheet import residual_view
from deflow_cli.reports.pages.fit_page import Preview
from deflow_cli.workflows.realism.data import NoisyImage
from deflow_cli.workflows.report.samples import SampleDraw, Sampler, centre_crop, flattest_window
from deflow_cli.workflows.report.sources import Subject

TEMPERATURES = (0.0, 0.5, 0.8, 1.0, 1.2)
PREVIEW_ROWS = 4
PREVIEW_SIDE = 160  # px of a crop that is drawn
SHOWN_WINDOW = 136  # px of it that are shown: seven stand side by side
GRAIN_SIDE, GRAIN_WITHIN = 64, 512  # px of the flat crops whose grain is shown, and of where they are sought
MOST_COMPONENTS = 8
SHOWN_STD = 28.0  # grey levels that the std of a residual takes when it is made visible


@dataclass(frozen=True)
class Previews:
    """What the page shows. grain, strength: see FitPage. by_component: the first crop by each component.

    samples: the two samples at temperature 1 of each crop.
    """

    rows: list[Preview]
    grain: list[list[tuple[str, Pixels]]]
    strength: list[list[float]]
    by_component: list[Pixels]
    samples: list[NoisyImage]
    notes: list[str]


@dataclass(frozen=True)
class _Drawn:
    """One crop and its samples: one per temperature, and a second one at temperature 1."""

    subject: Subject
    clean: Pixels
    samples: dict[float, Pixels]
    second: Pixels


def make_previews(
    sampler: Sampler, clean: Sequence[Subject], noisy: Sequence[Subject], is_late: Callable[[], bool]
) -> Previews:
    """Draw a row per clean image, at least one; ``is_late`` says when to stop. ``noisy`` may be empty."""
    temperatures, notes = _usable(sampler, centre_crop(clean[0].pixels, PREVIEW_SIDE), clean[0].name)
    drawn: list[_Drawn] = []
    for subject in clean:
        if drawn and is_late():
            break
        crop = centre_crop(subject.pixels, PREVIEW_SIDE)
        draws = [*(SampleDraw(t) for t in temperatures), SampleDraw(1.0, 1)]
        *samples, second = sampler.draw(crop, subject.name, draws)
        drawn.append(_Drawn(subject, crop, dict(zip(temperatures, samples, strict=True)), second))
    gain = _gain(drawn)
    grain = _grain(drawn, noisy, gain)
    rows = [_row(one, noisy[index % len(noisy)] if noisy else None, gain) for index, one in enumerate(drawn)]
    count = min(sampler.translator.model.prior.components, MOST_COMPONENTS)
    first = drawn[0]
    draws = [SampleDraw(1.0, 0, k) for k in range(count)] if count > 1 else []
    by_component = sampler.draw(first.clean, first.subject.name, draws) if draws else []
    pairs = [NoisyImage(one.subject.name, (one.samples[1.0], one.second), one.clean) for one in drawn]
    return Previews(rows, grain, _strength(drawn, temperatures), by_component, pairs, notes)


def _usable(sampler: Sampler, crop: Pixels, key: str) -> tuple[list[float], list[str]]:
    """The temperatures up to 1, and 1.2 where the model can bear it."""
    try:
        sampler.draw(crop, key, [SampleDraw(TEMPERATURES[-1])])
        return list(TEMPERATURES), []
    except DeflowError as error:
        return list(TEMPERATURES[:-1]), [f"{TEMPERATURES[-1]:g} is too hot: {error}."]


def _gain(drawn: Sequence[_Drawn]) -> float:
    """One whole gain for all residuals of the page, so that they can be compared."""
    stds = [float(np.std(_added(one.clean, one.samples[1.0]))) for one in drawn]
    return float(np.clip(np.round(SHOWN_STD / max(float(np.mean(stds)), 0.5)), 1, 16))


def _added(clean: Pixels, sample: Pixels) -> NDArray[np.float64]:
    """What a sample adds, grey levels."""
    return sample.astype(np.float64) - clean


def _row(one: _Drawn, real: Subject | None, gain: float) -> Preview:
    pictures = [("clean", one.clean), *((f"at {t:g}", sample) for t, sample in one.samples.items())]
    between = _added(one.samples[1.0], one.second) / 255
    residuals = [("between two at 1", residual_view(between, gain))]
    residuals += [
        (f"added at {t:g}", residual_view(_added(one.clean, sample) / 255, gain))
        for t, sample in one.samples.items()
    ]
    seen = {True: ", held out", False: ", a training image", None: ""}
    caption = f"{one.subject.name}{seen[one.subject.held_out]}"
    if real is not None:
        pictures.append(("real noisy", real.pixels))
        caption += f"; the real one is {real.name}{seen[real.held_out]}"
    words = f"Amplified {gain:g} times, zero is mid-grey."
    shown, views = (
        [(label, centre_crop(pixels, SHOWN_WINDOW)) for label, pixels in row] for row in (pictures, residuals)
    )
    return Preview(caption, shown, views, words, (one.samples[1.0], one.second))


def _grain(drawn: Sequence[_Drawn], noisy: Sequence[Subject], gain: float) -> list[list[tuple[str, Pixels]]]:
    """High-passed alike: the noise of samples at temperature 1, and the flattest spots of real images."""
    if not noisy:
        return []
    fakes = []
    for one in drawn:
        _, window = flattest_window(one.clean, GRAIN_SIDE)
        fakes.append((high_pass(one.samples[1.0]) - high_pass(one.clean))[window])
    spots = []
    for subject in noisy:
        pixels = centre_crop(subject.pixels, GRAIN_WITHIN)
        structure, window = flattest_window(pixels, GRAIN_SIDE)
        spots.append((structure, high_pass(pixels)[window]))
    spots.sort(key=lambda spot: spot[0])
    real = [grain for _, grain in spots[: len(fakes)]]
    sides = (("model", fakes), ("real", real))
    return [[(name, residual_view(grain, gain)) for grain in crops] for name, crops in sides]


def _strength(drawn: Sequence[_Drawn], temperatures: Sequence[float]) -> list[list[float]]:
    """Per temperature: RMS of what is added, std of its fine grain, mean shift of each channel."""
    rows = []
    for t in temperatures:
        added = [_added(one.clean, one.samples[t]) for one in drawn]
        fine = [255 * (high_pass(one.samples[t]) - high_pass(one.clean)) for one in drawn]
        shift = np.mean([residual.mean(axis=(0, 1)) for residual in added], axis=0)
        rms = float(np.sqrt(np.mean([np.mean(residual**2) for residual in added])))
        rows.append([t, rms, float(np.mean([np.std(one) for one in fine])), *map(float, shift)])
    return rows
