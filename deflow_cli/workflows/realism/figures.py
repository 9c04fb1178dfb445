"""Realism table: every figure of an assessment in one row, beside what to hold it against."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deflow_cli.workflows.realism.assess import Assessment, RealSide


@dataclass(frozen=True)
class Figure:
    """One figure: ``value`` of the synthetic set, beside ``reference``, which ``against`` explains.

    against: "real halves" (what two halves of the real images score), "real" (the same figure of the real
    images), "bound" or "ideal". low, high: 95 % interval, NaN without. digits: decimals to show.
    """

    section: str
    name: str
    value: float
    reference: float = math.nan
    against: str = ""
    low: float = math.nan
    high: float = math.nan
    digits: int = 3
    what: str = ""


HALVES, REAL, BOUND, IDEAL = "real halves", "real", "bound", "ideal"

_DISTANCES = (
    ("kl", "KL of histograms", 4, "nats, pooled, 8-bit levels within +-0.1; lower is better"),
    ("kl_neca", "KLD-NeCA", 4, "nats, pooled, 64 bins on +-0.1 and two overflows; lower is better"),
    ("acf_rms", "autocorrelation", 4, "RMS difference over +-4 lags; lower is better"),
    ("psd_db", "spectrum", 2, "mean |dB| between radial power spectra; lower is better"),
    ("noise_level_rms", "noise level by brightness", 2, "RMS difference in grey levels over 16 bins of luma"),
    ("channel_correlation_rms", "channel correlation", 3, "RMS difference of RG, GB, RB; lower is better"),
)
_VALUES = (
    ("std", "std", 2, "grey levels"),
    ("kurtosis", "excess kurtosis", 2, "pooled; 0 for Gaussian noise of one level"),
    ("kurtosis_image", "excess kurtosis, per image", 2, "mean over images"),
)


def figures(real: RealSide, found: Assessment) -> list[Figure]:
    """All figures of an assessment, by section: residuals, flat patches, classifiers, content, randomness."""
    rows: list[Figure] = []
    if found.residual:
        rows += _distances("residuals", found.residual, real.residual_floor)
    if found.same_scenes:
        rows += _per_scene(found)
    if found.unpaired:
        rows += _distances("flat patches", found.unpaired, real.unpaired_floor)
    rows += _told_apart(real, found)
    rows += _content(real, found)
    rows += _randomness(real, found)
    return rows


def _distances(section: str, values: Mapping[str, float], floor: Mapping[str, float]) -> Iterator[Figure]:
    for key, name, digits, what in _VALUES:
        yield Figure(
            section, name, values[f"{key}_fake"], values[f"{key}_real"], REAL, digits=digits, what=what
        )
    for key, name, digits, what in _DISTANCES:
        if key in values:
            reference = floor.get(key, math.nan)
            yield Figure(section, name, values[key], reference, HALVES, digits=digits, what=what)


def _per_scene(found: Assessment) -> Iterator[Figure]:
    """Figures of the very same scenes, real against synthetic."""
    what = "nats, 256 bins on +-1, per image, mean; lower is better"
    yield Figure("residuals", "KLD-NAF", found.residual["kl_naf"], 0.0, IDEAL, digits=4, what=what)
    what = "variance maps of the same scenes (DANet); its self-floor is what a perfect model scores"
    yield Figure("residuals", "AKLD", found.akld, found.akld_floor, "self-floor", digits=3, what=what)


def _told_apart(real: RealSide, found: Assessment) -> Iterator[Figure]:
    section = "told apart by"
    for name, record in (("KID, NSS features", found.kid), ("KID, Inception", found.inception)):
        if record is not None:
            what = "squared kernel distance of patches; up to 97.5 % of real halves is no difference"
            yield Figure(
                section, name, record.value, record.floor_high, HALVES, record.low, record.high, what=what
            )
    if found.two_sample is not None:
        test, floor = found.two_sample, real.two_sample_floor
        yield Figure(
            section,
            "a small CNN",
            test.accuracy,
            floor.accuracy if floor else 0.5,
            HALVES if floor else IDEAL,
            test.low,
            test.high,
            what="balanced accuracy on held-out images; 0.5 cannot be told apart",
        )


def _content(real: RealSide, found: Assessment) -> Iterator[Figure]:
    ours, theirs = found.content, real.content
    if ours is None:
        return
    section = "content"

    def row(name: str, value: float, reference: float | None, ideal: float, digits: int, what: str) -> Figure:
        known = reference is not None
        return Figure(
            section,
            name,
            value,
            reference if reference is not None else ideal,
            REAL if known else IDEAL,
            digits=digits,
            what=what,
        )

    what = "dB, after a blur of sigma 8: whether the picture stays what it was"
    psnr = theirs.low_pass_psnr if theirs else None
    yield row("low-pass PSNR", ours.low_pass_psnr, psnr, math.inf, 1, what)
    for channel, name in enumerate(("red", "green", "blue")):
        what = "mean of noisy minus clean, grey levels"
        shift = float(theirs.colour_shift[channel]) if theirs else None
        yield row(f"colour shift, {name}", float(ours.colour_shift[channel]), shift, 0.0, 2, what)
    what = "share of the clean picture's finest octave that survives"
    gain = float(theirs.gain[-1]) if theirs else None
    yield row("finest detail kept", float(ours.gain[-1]), gain, 1.0, 2, what)


def _randomness(real: RealSide, found: Assessment) -> Iterator[Figure]:
    section = "randomness"
    if found.independence is not None:
        test = found.independence
        what = "correlation of two samples of one image, what a filter of the image explains taken off"
        yield Figure(section, "samples correlate", test.noise_correlation, test.bound, BOUND, what=what)
        what = f"error of the mean of {test.samples} samples over that of one; independent noise gives 1/n"
        yield Figure(section, "averaging leaves", test.average_ratio, test.expected_ratio, IDEAL, what=what)
    if found.repetition is not None:
        for name, peak in (
            ("within an image", found.repetition.within),
            ("across images", found.repetition.across),
        ):
            if peak is not None:
                what = "largest correlation of the noise with itself elsewhere"
                yield Figure(section, f"repeats {name}", peak.value, peak.bound, BOUND, what=what)
