"""Findings: what differs between synthetic and real noise, decided by figures. Reports put them in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from deflow_cli.metrics.noise.content import Content
from deflow_cli.metrics.noise.differences import (
    LEAST_STD,
    TONES,
    Floors,
    NoiseDifferences,
    NoiseStatistics,
    measure_differences,
    measure_floors,
    neighbour,
    tilt_db,
    tone_levels,
)
from deflow_cli.metrics.noise.independence import Independence
from deflow_cli.metrics.noise.repetition import Repetition

__all__ = ["Finding", "FindingKind", "Floors", "NoiseStatistics", "Severity", "judge", "measure_floors"]

Severity = Literal["good", "note", "warn", "bad"]
FindingKind = Literal[
    "no noise",
    "too weak",
    "too strong",
    "tone too weak",
    "tone too strong",
    "too coarse",
    "too white",
    "another spectrum",
    "another pattern",
    "channels too independent",
    "channels too dependent",
    "heavy tails",
    "light tails",
    "too bright",
    "too dark",
    "colour cast",
    "detail blurred",
    "detail exaggerated",
    "detail preserved too well",
    "picture changed",
    "no randomness",
    "little randomness",
    "repeats within an image",
    "repeats across images",
    "nothing judged",
    "nothing wrong",
    "indistinguishable",
    "in order",
]
ORDER: dict[Severity, int] = {"bad": 0, "warn": 1, "note": 2, "good": 3}

CHANNEL_NAMES = ("red", "green", "blue")
CHANNEL_PAIRS = ("red-green", "green-blue", "red-blue")

# Just noticeable amounts. A difference counts if it is above these and above FLOORS times its floor, which is
# what random halves of the real images differ by.
LEVEL = 0.10  # log ratio of stds
TONE = 0.20
NEIGHBOUR = 0.10  # correlation
TILT_DB = 2.5
SHAPE_DB = 1.5
ACF = 0.03
CHANNEL_CORRELATION = 0.10
TAILS = 0.25  # log ratio of kurtoses
CAST = 1.0  # grey levels
DETAIL = 0.08  # share of the amplitude
LOW_PASS_DB = 35.0
COMPRESSED = 0.3  # correlation of samples
FLOORS = 2.5
MEAN_FLOORS = 1.6  # for means of absolute values, which hardly scatter
BAD = 2.0  # times the threshold
BAD_REPETITION = 0.15  # correlation of the noise with itself elsewhere
NO_FLOORS = Floors(0.0, np.zeros(3), 0.0, 0.0, 0.0, 0.0, np.zeros(3), 0.0)


@dataclass(frozen=True)
class Finding:
    """One thing that was found about one ``subject`` (see `judge`).

    kind: what was found. figures: the numbers and names that show it, stds and shifts in grey levels of 255;
    ``real`` and ``real_...`` are those of the real noise. `deflow_cli.reports.findings` words each kind.
    """

    subject: str
    severity: Severity
    kind: FindingKind
    figures: Mapping[str, float | str | tuple[str, ...]] = field(default_factory=dict)


def judge(
    real: NoiseStatistics | None,
    fake: NoiseStatistics,
    *,
    content: Content | None = None,
    real_content: Content | None = None,
    independence: Independence | None = None,
    repetition: Repetition | None = None,
    real_repetition: Repetition | None = None,
    floors: Floors | None = None,
) -> list[Finding]:
    """Compare a synthetic set with a real one and find what differs, worst first; never empty.

    Subjects: level, tones, grain, spectrum, channels, tails (these need ``real``, statistics of the same
    kind as ``fake``), colour, detail, content, randomness, repetition, and overall for what is in order. A
    difference counts above an amount that can just be noticed and above 2.5 times its floor, if floors are
    given (`measure_floors`; 1.6 times for the spectrum); it is bad above twice that. ``real_content`` and
    ``real_repetition``: of real pairs; without, the content is held against an unchanged picture.
    """
    checked: dict[str, list[Finding]] = {}
    if real is not None:
        checked |= _judge_noise(real, fake, floors or NO_FLOORS)
    if content is not None:
        checked["colour"] = _colour(content, real_content)
        checked["detail"] = _detail(content, real_content)
        checked["content"] = [] if checked["colour"] or checked["detail"] else _low(content, real_content)
    if independence is not None:
        checked["randomness"] = _randomness(independence)
    if repetition is not None:
        checked["repetition"] = _repetition(repetition, real_repetition)
    found = [finding for findings in checked.values() for finding in findings]
    found.sort(key=lambda finding: ORDER[finding.severity])
    fine = [subject for subject, findings in checked.items() if not findings]
    return [*found, *_overall(fine, not found, real is not None)]


def _severity(amount: float, least: float, floor: float, floors: float = FLOORS) -> Severity | None:
    """None where the amount does not count."""
    threshold = max(least, floors * floor)
    if not abs(amount) > threshold:  # NaN does not count
        return None
    return "bad" if abs(amount) > BAD * threshold else "warn"


def _overall(fine: list[str], all_fine: bool, compared: bool) -> list[Finding]:
    """What to say of the subjects without a finding: whether there is real noise to compare with decides."""
    if not fine:
        return [Finding("overall", "note", "nothing judged")] if all_fine else []
    subjects = {"subjects": tuple(fine)}
    if not compared:
        return [Finding("overall", "note", "nothing wrong", subjects)]
    return [Finding("overall", "good", "indistinguishable" if all_fine else "in order", subjects)]


def _judge_noise(real: NoiseStatistics, fake: NoiseStatistics, floors: Floors) -> dict[str, list[Finding]]:
    if fake.std < LEAST_STD:
        return {"level": [_level(real, fake, "bad")]}
    differences = measure_differences(real, fake)
    level = _severity(differences.level, LEVEL, floors.level)
    grain = _grain(real, fake, differences, floors)
    return {
        "level": [_level(real, fake, level)] if level else [],
        "tones": _tone_findings(real, fake, differences, floors, bool(level)),
        "grain": grain,
        "spectrum": [] if grain else _spectrum(differences, floors),
        "channels": _channels(real, fake, differences, floors),
        "tails": _tails(real, fake, differences, floors),
    }


def _percent(part: float, whole: float) -> float:
    return 100 * part / max(whole, 1e-9)


def _level(real: NoiseStatistics, fake: NoiseStatistics, severity: Severity) -> Finding:
    ours, theirs = fake.std * 255.0, real.std * 255.0
    figures = {"std": ours, "real_std": theirs, "percent": _percent(ours, theirs)}
    if ours < LEAST_STD * 255.0:
        return Finding("level", severity, "no noise", figures)
    return Finding("level", severity, "too weak" if ours < theirs else "too strong", figures)


def _tone_findings(
    real: NoiseStatistics,
    fake: NoiseStatistics,
    differences: NoiseDifferences,
    floors: Floors,
    level_counts: bool,
) -> list[Finding]:
    """Tones whose level is off by another factor than the whole."""
    found = []
    stds = [levels * 255.0 for levels in tone_levels(real, fake)]
    for index, tone in enumerate(TONES):
        gap, floor = differences.tones[index], floors.tones[index]
        severity = _severity(gap, TONE, floor)
        apart = not level_counts or _severity(gap - differences.level, TONE, floor)
        if severity and apart:
            theirs, ours = stds[0][index], stds[1][index]
            kind: FindingKind = "tone too weak" if gap < 0 else "tone too strong"
            figures = {"std": ours, "real_std": theirs, "percent": _percent(ours, theirs)}
            found.append(Finding("tones", severity, kind, {"tone": tone, **figures}))
    return found


def _grain(
    real: NoiseStatistics, fake: NoiseStatistics, differences: NoiseDifferences, floors: Floors
) -> list[Finding]:
    """Correlation of adjacent pixels and tilt of the spectrum; nothing where the two contradict."""
    by_neighbour = _severity(differences.neighbour, NEIGHBOUR, floors.neighbour)
    by_tilt = _severity(differences.tilt_db, TILT_DB, floors.tilt_db)
    severity = by_neighbour or by_tilt
    if severity is None or (by_neighbour and by_tilt and differences.neighbour * differences.tilt_db < 0):
        return []
    if "bad" in (by_neighbour, by_tilt):
        severity = "bad"
    coarser = (differences.neighbour if by_neighbour else differences.tilt_db) > 0
    figures = {
        "neighbour": neighbour(fake),
        "real_neighbour": neighbour(real),
        "tilt_db": tilt_db(fake.psd_db),
        "real_tilt_db": tilt_db(real.psd_db),
    }
    return [Finding("grain", severity, "too coarse" if coarser else "too white", figures)]


def _spectrum(differences: NoiseDifferences, floors: Floors) -> list[Finding]:
    """The spectrum's shape, else (a direction or a period does not show there) the autocorrelation."""
    severity = _severity(differences.shape_db, SHAPE_DB, floors.shape_db, MEAN_FLOORS)
    if severity:
        threshold = max(SHAPE_DB, MEAN_FLOORS * floors.shape_db)
        figures = {"difference": differences.shape_db, "threshold": threshold}
        return [Finding("spectrum", severity, "another spectrum", figures)]
    severity = _severity(differences.acf, ACF, floors.acf, MEAN_FLOORS)
    if severity:
        figures = {"difference": differences.acf, "threshold": max(ACF, MEAN_FLOORS * floors.acf)}
        return [Finding("spectrum", severity, "another pattern", figures)]
    return []


def _channels(
    real: NoiseStatistics, fake: NoiseStatistics, differences: NoiseDifferences, floors: Floors
) -> list[Finding]:
    """The pair of channels whose correlation differs most, as a multiple of its threshold."""
    floor = floors.channel_correlation
    worst = int(
        np.argmax(np.abs(differences.channel_correlation) / np.maximum(CHANNEL_CORRELATION, FLOORS * floor))
    )
    severity = _severity(differences.channel_correlation[worst], CHANNEL_CORRELATION, floor[worst])
    if severity is None:
        return []
    kind: FindingKind = (
        "channels too independent" if differences.channel_correlation[worst] < 0 else "channels too dependent"
    )
    figures = {
        "correlation": float(fake.channel_correlation[worst]),
        "real_correlation": float(real.channel_correlation[worst]),
    }
    return [Finding("channels", severity, kind, {"pair": CHANNEL_PAIRS[worst], **figures})]


def _tails(
    real: NoiseStatistics, fake: NoiseStatistics, differences: NoiseDifferences, floors: Floors
) -> list[Finding]:
    if not _severity(differences.tails, TAILS, floors.tails):
        return []
    figures = {"kurtosis": fake.excess_kurtosis, "real_kurtosis": real.excess_kurtosis}
    return [Finding("tails", "warn", "heavy tails" if differences.tails > 0 else "light tails", figures)]


def _colour(content: Content, real: Content | None) -> list[Finding]:
    """The channel whose mean shifts most; a shift of all three in one direction is one of brightness."""
    gap = content.colour_shift - (real.colour_shift if real else 0.0)
    variance = content.colour_spread**2 / content.images
    if real:
        variance = variance + real.colour_spread**2 / real.images
    worst = int(np.argmax(np.abs(gap) / np.maximum(CAST, 3.0 * np.sqrt(variance))))
    severity = _severity(gap[worst], CAST, 1.5 * float(np.sqrt(variance[worst])))
    if severity is None:
        return []
    kind: FindingKind = "colour cast"
    if gap.min() > CAST / 2 or gap.max() < -CAST / 2:
        kind = "too bright" if gap[worst] > 0 else "too dark"
    figures = {
        "difference": float(gap[worst]),
        "mean": abs(float(gap.mean())),
        "shift": float(content.colour_shift[worst]),
    }
    if real:
        figures["real"] = float(real.colour_shift[worst])
    return [Finding("colour", severity, kind, {"channel": CHANNEL_NAMES[worst], **figures})]


def _detail(content: Content, real: Content | None) -> list[Finding]:
    """The finest band of detail that is weaker or stronger than in real pairs."""
    expected, error = (real.gain, real.gain_error) if real else (np.ones(4), np.zeros(4))
    for band, name in ((3, "finest"), (2, "second finest")):
        noise = float(np.hypot(content.gain_error[band], error[band]))
        gap = float(content.gain[band] - expected[band])
        severity = _severity(gap, DETAIL, 1.5 * noise)
        if severity is None or np.isnan(noise):
            continue
        kind: FindingKind = "detail blurred"
        if gap >= 0:
            exaggerated = content.gain[band] > 1.0 + DETAIL
            kind = "detail exaggerated" if exaggerated else "detail preserved too well"
        figures = {"percent": float(100 * content.gain[band])}
        if real:
            figures["real"] = float(100 * expected[band])
        return [Finding("detail", severity, kind, {"band": name, **figures})]
    return []


def _low(content: Content, real: Content | None) -> list[Finding]:
    """Whether the picture stays what it was, once the noise is blurred away."""
    ours, theirs = content.low_pass_psnr, real.low_pass_psnr if real else np.inf
    if ours >= min(LOW_PASS_DB, theirs - 3.0):
        return []
    figures = {"psnr": ours, "threshold": LOW_PASS_DB}
    if real:
        figures["real"] = theirs
    severity: Severity = "bad" if ours < LOW_PASS_DB - 10.0 else "warn"
    return [Finding("content", severity, "picture changed", figures)]


def _randomness(independence: Independence) -> list[Finding]:
    if independence.passes:
        return []
    if independence.identical:
        return [Finding("randomness", "bad", "no randomness")]
    figures = {
        "correlation": independence.noise_correlation,
        "bound": independence.bound,
        "samples": independence.samples,
        "effective_samples": independence.effective_samples,
    }
    # Strong compression alone makes samples correlate by 0.2.
    severity: Severity = "bad" if independence.noise_correlation > COMPRESSED else "warn"
    return [Finding("randomness", severity, "little randomness", figures)]


def _repetition(repetition: Repetition, real: Repetition | None) -> list[Finding]:
    peak = repetition.worst
    if repetition.passes:
        return []
    if real is not None and not real.passes and peak.excess <= FLOORS * real.worst.excess:
        return []  # the real noise repeats as well, as a sensor's rows do
    one_image = peak.first == peak.second
    figures = {
        "first": peak.first + 1,
        "second": peak.second + 1,
        "down": peak.down,
        "right": peak.right,
        "correlation": peak.value,
        "bound": peak.bound,
    }
    severity: Severity = "bad" if peak.value > BAD_REPETITION else "warn"
    kind: FindingKind = "repeats within an image" if one_image else "repeats across images"
    return [Finding("repetition", severity, kind, figures)]
