"""Findings: what the figures of realism say, in sentences a person can act on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from deflow_cli.metrics.noise.content import Content
from deflow_cli.metrics.noise.differences import (
    LEAST_STD,
    TONES,
    Floors,
    Gaps,
    NoiseStatistics,
    measure_floors,
    measure_gaps,
    neighbour,
    tilt_db,
    tone_levels,
)
from deflow_cli.metrics.noise.independence import Independence
from deflow_cli.metrics.noise.repetition import Repetition

__all__ = ["Finding", "Floors", "NoiseStatistics", "Severity", "judge", "measure_floors"]

Severity = Literal["good", "note", "warn", "bad"]
ORDER: dict[Severity, int] = {"bad": 0, "warn": 1, "note": 2, "good": 3}

CHANNELS = ("red", "green", "blue")
CHANNEL_PAIRS = ("red-green", "green-blue", "red-blue")

# just noticeable amounts; a difference counts above these and above FLOORS times the floor
LEVEL = 0.10  # log ratio of stds
TONE = 0.20
NEIGHBOUR = 0.10  # correlation
TILT_DB = 2.5
SHAPE_DB = 1.5
ACF = 0.03
TIES = 0.10
TAILS = 0.25  # log ratio of kurtoses
CAST = 1.0  # grey levels
DETAIL = 0.08  # share of the amplitude
LOW_PASS_DB = 35.0
COMPRESSED = 0.3  # correlation of samples
FLOORS = 2.5
MEAN_FLOORS = 1.6  # for means of absolute values, which hardly scatter
BAD = 2.0  # times the threshold
NO_FLOORS = Floors(0.0, np.zeros(3), 0.0, 0.0, 0.0, 0.0, np.zeros(3), 0.0)


@dataclass(frozen=True)
class Finding:
    """One sentence about one ``subject`` (see `judge`), fit to print as it stands."""

    subject: str
    severity: Severity
    sentence: str


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
    """Compare a synthetic set with a real one and say what differs, worst first; never empty.

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
    if not fine:
        nothing = [Finding("overall", "note", "Nothing could be judged: no real noise, and no clean input.")]
        return nothing if all_fine else []
    names = fine[0] if len(fine) == 1 else f"{', '.join(fine[:-1])} and {fine[-1]}"
    if not compared:
        return [Finding("overall", "note", f"Nothing wrong in {names}; the noise had no real one to go by.")]
    if all_fine:
        return [Finding("overall", "good", f"Cannot be told from the real noise in {names}.")]
    return [Finding("overall", "good", f"In order: {names}.")]


def _judge_noise(real: NoiseStatistics, fake: NoiseStatistics, floors: Floors) -> dict[str, list[Finding]]:
    if fake.std < LEAST_STD:
        return {"level": [_level(real, fake, "bad")]}
    gaps = measure_gaps(real, fake)
    level = _severity(gaps.level, LEVEL, floors.level)
    grain = _grain(real, fake, gaps, floors)
    return {
        "level": [_level(real, fake, level)] if level else [],
        "tones": _tone_findings(real, fake, gaps, floors, bool(level)),
        "grain": grain,
        "spectrum": [] if grain else _spectrum(gaps, floors),
        "channels": _ties(real, fake, gaps, floors),
        "tails": _tails(real, fake, gaps, floors),
    }


def _level(real: NoiseStatistics, fake: NoiseStatistics, severity: Severity) -> Finding:
    ours, theirs = fake.std * 255.0, real.std * 255.0
    if ours < LEAST_STD * 255.0:
        sentence = f"No noise: std {ours:.2f} grey levels where the real noise has {theirs:.1f}."
    else:
        word, advice = ("weak", "more") if ours < theirs else ("strong", "less")
        sentence = (
            f"Too {word}: {ours:.1f} grey levels where the real noise has {theirs:.1f} "
            f"({100 * ours / max(theirs, 1e-9):.0f} %); it takes {advice} noise."
        )
    return Finding("level", severity, sentence)


def _tone_findings(
    real: NoiseStatistics, fake: NoiseStatistics, gaps: Gaps, floors: Floors, level_counts: bool
) -> list[Finding]:
    """Tones whose level is off by another factor than the whole."""
    found = []
    stds = [levels * 255.0 for levels in tone_levels(real, fake)]
    for index, tone in enumerate(TONES):
        gap, floor = gaps.tones[index], floors.tones[index]
        severity = _severity(gap, TONE, floor)
        apart = not level_counts or _severity(gap - gaps.level, TONE, floor)
        if severity and apart:
            theirs, ours = stds[0][index], stds[1][index]
            found.append(
                Finding(
                    "tones",
                    severity,
                    f"Too {'weak' if gap < 0 else 'strong'} in the {tone}: {ours:.1f} grey levels where the "
                    f"real noise has {theirs:.1f} ({100 * ours / max(theirs, 1e-9):.0f} %).",
                )
            )
    return found


def _grain(real: NoiseStatistics, fake: NoiseStatistics, gaps: Gaps, floors: Floors) -> list[Finding]:
    by_neighbour = _severity(gaps.neighbour, NEIGHBOUR, floors.neighbour)
    by_tilt = _severity(gaps.tilt_db, TILT_DB, floors.tilt_db)
    severity = by_neighbour or by_tilt
    if severity is None or (by_neighbour and by_tilt and gaps.neighbour * gaps.tilt_db < 0):
        return []
    if "bad" in (by_neighbour, by_tilt):
        severity = "bad"
    coarser = (gaps.neighbour if by_neighbour else gaps.tilt_db) > 0
    figures = (
        f"adjacent pixels are correlated {neighbour(fake):.2f}, in the real noise {neighbour(real):.2f}, "
        f"and the coarse half of its spectrum stands {tilt_db(fake.psd_db):+.1f} dB over the fine one, "
        f"in the real noise {tilt_db(real.psd_db):+.1f}"
    )
    if coarser:
        return [Finding("grain", severity, f"Too smooth, its grain is too coarse: {figures}.")]
    return [Finding("grain", severity, f"Too white, the real noise is coarser: {figures}.")]


def _spectrum(gaps: Gaps, floors: Floors) -> list[Finding]:
    severity = _severity(gaps.shape_db, SHAPE_DB, floors.shape_db, MEAN_FLOORS)
    if severity:
        sentence = (
            f"Its spectrum has another shape: {gaps.shape_db:.1f} dB off on average at equal level "
            f"({max(SHAPE_DB, MEAN_FLOORS * floors.shape_db):.1f} would pass)."
        )
        return [Finding("spectrum", severity, sentence)]
    severity = _severity(gaps.acf, ACF, floors.acf, MEAN_FLOORS)
    if severity:
        sentence = (
            f"Its grain has another pattern (direction, stripes or period): the autocorrelations differ by "
            f"{gaps.acf:.3f} RMS ({max(ACF, MEAN_FLOORS * floors.acf):.3f} would pass)."
        )
        return [Finding("spectrum", severity, sentence)]
    return []


def _ties(real: NoiseStatistics, fake: NoiseStatistics, gaps: Gaps, floors: Floors) -> list[Finding]:
    floor = floors.ties
    worst = int(np.argmax(np.abs(gaps.ties) / np.maximum(TIES, FLOORS * floor)))
    severity = _severity(gaps.ties[worst], TIES, floor[worst])
    if severity is None:
        return []
    return [
        Finding(
            "channels",
            severity,
            f"The colour channels are tied together too {'little' if gaps.ties[worst] < 0 else 'much'}: "
            f"{CHANNEL_PAIRS[worst]} correlation {fake.channel_correlation[worst]:.2f}, in the real noise "
            f"{real.channel_correlation[worst]:.2f}.",
        )
    ]


def _tails(real: NoiseStatistics, fake: NoiseStatistics, gaps: Gaps, floors: Floors) -> list[Finding]:
    if not _severity(gaps.tails, TAILS, floors.tails):
        return []
    word, many = ("Heavier", "more") if gaps.tails > 0 else ("Lighter", "fewer")
    return [
        Finding(
            "tails",
            "warn",
            f"{word} tails, {many} outliers: excess kurtosis {fake.excess_kurtosis:.1f}, in the real noise "
            f"{real.excess_kurtosis:.1f}.",
        )
    ]


def _colour(content: Content, real: Content | None) -> list[Finding]:
    gap = content.colour_shift - (real.colour_shift if real else 0.0)
    variance = content.colour_spread**2 / content.images
    if real:
        variance = variance + real.colour_spread**2 / real.images
    worst = int(np.argmax(np.abs(gap) / np.maximum(CAST, 3.0 * np.sqrt(variance))))
    severity = _severity(gap[worst], CAST, 1.5 * float(np.sqrt(variance[worst])))
    if severity is None:
        return []
    held = f", the real noise {real.colour_shift[worst]:+.1f}" if real else ""
    if gap.min() > CAST / 2 or gap.max() < -CAST / 2:
        subject = f"Too {'bright' if gap[worst] > 0 else 'dark'} by {abs(float(gap.mean())):.1f} grey levels"
    else:
        subject = f"Colour cast of {gap[worst]:+.1f} grey levels in {CHANNELS[worst]}"
    return [
        Finding(
            "colour",
            severity,
            f"{subject}: it shifts {CHANNELS[worst]} by {content.colour_shift[worst]:+.1f}{held}.",
        )
    ]


def _detail(content: Content, real: Content | None) -> list[Finding]:
    expected, error = (real.gain, real.gain_error) if real else (np.ones(4), np.zeros(4))
    for band, name in ((3, "finest"), (2, "second finest")):
        noise = float(np.hypot(content.gain_error[band], error[band]))
        gap = float(content.gain[band] - expected[band])
        severity = _severity(gap, DETAIL, 1.5 * noise)
        if severity is None or np.isnan(noise):
            continue
        figure = f"{100 * content.gain[band]:.0f} % of the {name} detail survives"
        held = f"(real: {100 * expected[band]:.0f} %)" if real else "(100 % if only noise is added)"
        if gap < 0:
            return [Finding("detail", severity, f"Detail is blurred: only {figure} {held}.")]
        word = "exaggerated" if content.gain[band] > 1.0 + DETAIL else "kept too well"
        return [Finding("detail", severity, f"Detail is {word}: {figure} {held}.")]
    return []


def _low(content: Content, real: Content | None) -> list[Finding]:
    ours, theirs = content.low_pass_psnr, real.low_pass_psnr if real else np.inf
    if ours >= min(LOW_PASS_DB, theirs - 3.0):
        return []
    held = f" (real: {theirs:.1f})" if real else f" ({LOW_PASS_DB:.0f} would pass)"
    return [
        Finding(
            "content",
            "bad" if ours < LOW_PASS_DB - 10.0 else "warn",
            f"The picture itself changes: {ours:.1f} dB PSNR once the noise is blurred away{held}.",
        )
    ]


def _randomness(independence: Independence) -> list[Finding]:
    if independence.passes:
        return []
    if independence.identical:
        sentence = "No randomness: two samples of one image are the same."
    else:
        sentence = (
            f"Too little randomness: two samples of one image correlate {independence.noise_correlation:.2f} "
            f"(independent noise stays below {independence.bound:.2f}); the mean of {independence.samples} "
            f"is worth {independence.effective_samples:.1f}."
        )
    # strong compression alone ties samples together by 0.2
    tied = independence.identical or independence.noise_correlation > COMPRESSED
    return [Finding("randomness", "bad" if tied else "warn", sentence)]


def _repetition(repetition: Repetition, real: Repetition | None) -> list[Finding]:
    peak = repetition.worst
    if repetition.passes:
        return []
    if real is not None and not real.passes and peak.excess <= FLOORS * real.worst.excess:
        return []  # the real noise repeats as well, as a sensor's rows do
    moves = ((peak.down, "down", "up"), (peak.right, "to the right", "to the left"))
    parts = [f"{abs(n)} px {ahead if n > 0 else back}" for n, ahead, back in moves if n]
    where = " and ".join(parts)
    if peak.first == peak.second:
        place = f"the same pattern comes back {where} in image {peak.first + 1}"
    else:
        place = f"images {peak.first + 1} and {peak.second + 1} carry the same pattern, "
        place += where or "at the same place"
    sentence = (
        f"The noise repeats: {place} (correlation {peak.value:.2f}, chance stays below {peak.bound:.2f})."
    )
    return [Finding("repetition", "bad" if peak.value > 0.15 else "warn", sentence)]
