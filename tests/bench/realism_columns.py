"""Columns of the table of goals: how each figure is judged, and the targets of each domain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

REGIONS = ("dark", "middle", "bright", "flat", "textured")
"""Thirds of the test's clean pixels by luma, and the least and most detailed third."""


@dataclass(frozen=True)
class Column:
    """A figure of the table. ``rule`` says what is best and how a target is read.

    least: the least; chance: the least, but nothing below a coin's one half; ratio: 1, a target is the
    deviation allowed; kept: all that reach the real noise's value are alike, a target is the least allowed;
    real: the nearest to the real noise's value.
    """

    key: str
    head: str
    form: str
    rule: Literal["least", "chance", "ratio", "kept", "real"]

    def miss(self, value: float, real: float) -> float:
        """Distance of a value, as it is printed, from the best one; real: the real noise's own value."""
        value, real = (float(self.form.format(each)) for each in (value, real))
        if self.rule == "ratio":
            return abs(math.log(value)) if value > 0 else math.inf
        if self.rule == "kept":
            return 0.0 if value >= real else real - value
        if self.rule == "real":
            return abs(value - real)
        return max(value - 0.5, 0.0) if self.rule == "chance" else value

    def meets(self, value: float, target: float) -> bool:
        if self.rule == "ratio":
            return abs(value - 1.0) <= target
        return value >= target if self.rule == "kept" else value <= target

    def shown(self, value: float) -> str:
        return "–" if math.isnan(value) else self.form.format(value)

    def shown_target(self, target: float) -> str:
        if self.rule == "ratio":
            return f"within {target:.0%}".replace("%", " %")
        return f"{'≥' if self.rule == 'kept' else '≤'} {self.form.format(target)}"


COLUMNS = (
    Column("kl", "KL, pooled", "{:.4f}", "least"),
    Column("acf_rms", "ACF RMS", "{:.3f}", "least"),
    Column("psd_db", "PSD dB", "{:.2f}", "least"),
    *(Column(f"std_{region}", f"std {region}", "{:.2f}", "ratio") for region in REGIONS),
    Column("cnn", "CNN tells", "{:.3f}", "chance"),
    Column("low_pass_psnr", "low-pass PSNR", "{:.1f}", "kept"),
    Column("colour_shift", "colour shift", "{:.2f}", "least"),
    Column("finest_kept", "finest detail kept", "{:.2f}", "real"),
)


def _targets(
    kl: float, acf: float, psd: float, brightness: float, texture: float, cnn: float, kept: float
) -> dict[str, float]:
    by_brightness = {f"std_{region}": brightness for region in REGIONS[:3]}
    by_texture = {f"std_{region}": texture for region in REGIONS[3:]}
    spread = {"kl": kl, "acf_rms": acf, "psd_db": psd, **by_brightness, **by_texture}
    return {**spread, "cnn": cnn, "low_pass_psnr": kept, "colour_shift": 0.5}


TARGETS = {
    "polyu_camera": _targets(0.006, 0.04, 0.9, brightness=0.10, texture=0.15, cnn=0.70, kept=48),
    "isp": _targets(0.004, 0.03, 0.8, brightness=0.07, texture=0.10, cnn=0.65, kept=48),
    "scan-like": _targets(0.004, 0.03, 0.8, brightness=0.07, texture=0.10, cnn=0.65, kept=48),
    "ntire-like": _targets(0.0004, 0.025, 0.6, brightness=0.05, texture=0.05, cnn=0.60, kept=52),
}
