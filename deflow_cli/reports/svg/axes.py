"""Axes: scales, nice ticks, and the frame that a plot is drawn in."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deflow_cli.reports.svg.markup import element, escaped
from deflow_cli.reports.svg.palette import AXIS, GRID, MUTED

WIDTH = 480.0
FONT = 15.0
LINE = 20.0
# Beyond these, squares overflow and underflow: such values count as infinite, and as zero.
HUGE = 1e140
TINY = 1e-140
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def usable(values: Iterable[float], log: bool = False) -> list[float]:
    """The finite values, the positive ones alone for a logarithmic axis."""
    found = (v if abs(v) > TINY else 0.0 for v in map(float, values) if abs(v) < HUGE)
    return [v for v in found if v > 0.0 or not log]


def text_width(text: str, size: float = FONT) -> float:
    """A generous estimate of a text's width in a sans-serif face (no font is at hand to measure)."""
    narrow, wide = "ilj.,:;|!'()[]tfrI ", "mwMW@%—…"
    units = 0.0
    for character in text:
        if unicodedata.east_asian_width(character) in "WF":
            units += 1.0
        elif character in narrow:
            units += 0.4
        else:
            units += 1.0 if character in wide else 0.64
    return units * size


def shortened(text: str, width: float, size: float = FONT) -> str:
    """The text, its middle cut by an ellipsis to fit the width: the ends of file names tell them apart."""
    if text_width(text, size) <= width:
        return text
    for keep in range(len(text) - 1, 0, -1):
        cut = text[: (keep + 1) // 2] + "…" + text[len(text) - keep // 2 :]
        if text_width(cut, size) <= width:
            return cut
    return "…"


def wrapped(text: str, width: float, size: float = FONT) -> list[str]:
    """Lines that fit the width, broken at spaces; a single word that does not fit is shortened."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(joined, size) <= width:
            lines[-1] = joined
        else:
            lines.append(shortened(word, width, size))
    return lines


def nice_step(span: float, count: int) -> float:
    """The least of 1, 2 or 5 times a power of ten that cuts the span into at most ``count`` pieces."""
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= raw * (1 - 1e-9))


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Multiples of a nice step within [low, high], at most ``count`` + 1 of them."""
    step = nice_step(high - low, count)
    digits = max(0, 2 - math.floor(math.log10(step)))
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [round(k * step, digits) + 0.0 for k in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Powers of ten within [low, high], thinned to ``count``; 2 and 5 between where there are few."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    decades = range(first, last + 1)
    if len(decades) >= 3:
        stride = math.ceil(len(decades) / count)
        return [10.0**k for k in decades if k % stride == 0]
    fine = [m * 10.0**k for k in range(first - 1, last + 1) for m in (1.0, 2.0, 5.0)]
    fine = [v for v in fine if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
    return fine if len(fine) >= 2 else linear_ticks(low, high, count)


def tick_text(value: float, step: float) -> str:
    """A tick's label with the decimals that its step needs; a power of ten for huge and tiny ones."""
    if value == 0.0:
        return "0"
    if abs(value) >= 1e6 or step < 0.99e-4:
        exponent = math.floor(math.log10(abs(value)) + 1e-9)
        mantissa = f"{value / 10.0**exponent:.4g}"
        power = "10" + str(exponent).translate(_SUPERSCRIPTS)
        text = power if mantissa == "1" else f"-{power}" if mantissa == "-1" else f"{mantissa}·{power}"
    else:
        text = f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
    return text.replace("-", "−")


def short_number(value: float) -> str:
    """Four significant digits, for tooltips and values beside bars; ∞ and – for what is not finite."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.4g}".replace("-", "−")


@dataclass(frozen=True)
class Scale:
    """A map from values to coordinates: [low, high] to [start, end], linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The coordinate; beyond the range it goes on, clamped to ten widths so that numbers stay sane."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        share = min(10.0, max(-10.0, (value - low) / (high - low)))
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Values and labels."""
        values = (log_ticks if self.log else linear_ticks)(self.low, self.high, count)
        if self.log:
            far = max(values) >= 1e5 or min(values) < 0.99e-3
            return [(v, tick_text(v, 0.0 if far and not 0.1 <= v < 100 else v)) for v in values]
        step = values[1] - values[0] if len(values) > 1 else self.high - self.low
        labels = [tick_text(v, step) for v in values]
        if len(set(labels)) < len(labels):
            labels = [f"{v:.15g}".replace("-", "−") for v in values]
        return list(zip(values, labels, strict=True))


def _distinct(low: float, high: float) -> bool:
    """Whether there is room for ticks between two numbers."""
    return high - low > 1e-12 * max(abs(low), abs(high))


def fitted_range(
    values: Iterable[float], given: tuple[float, float] | None, log: bool, pad: float = 0.04
) -> tuple[float, float] | None:
    """The range of an axis: the given one, or the values' with some room; None without any value."""
    if given is not None:
        limits = usable(given, log)
        if len(limits) == 2 and _distinct(min(limits), max(limits)):
            return min(limits), max(limits)
    found = usable(values, log)
    if not found:
        return None
    low, high = min(found), max(found)
    if log:
        low_log, high_log = math.log10(low), math.log10(high)
        room = pad * (high_log - low_log) if high > low * (1 + 1e-9) else 0.3
        return 10.0 ** (low_log - room), 10.0 ** (high_log + room)
    room = pad * (high - low) if _distinct(low, high) else max(abs(low), abs(high)) * 0.1 or 0.5
    return low - room, high + room


def text(x: float, y: float, content: str, anchor: str = "start", **attributes: object) -> str:
    """A ``<text>``; the content is escaped."""
    where = None if anchor == "start" else anchor
    return element("text", escaped(content), x=x, y=y, text_anchor=where, **attributes)


def document(parts: Sequence[str], height: float, title: str, description: str) -> str:
    """The ``<svg>``: scales with its place, speaks its title, and refers to nothing outside itself."""
    head = element("title", escaped(title)) + element("desc", escaped(description))
    style = f"font:{FONT:g}px system-ui,-apple-system,'Segoe UI',sans-serif;fill:var(--ink,#1d2329)"
    return element(
        "svg",
        head + "".join(parts),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:g} {math.ceil(height)}",
        role="img",
        class_="plot",
        style=style,
    )


def headline(title: str, y_label: str = "", top: float = 4.0) -> tuple[list[str], float]:
    """The title, and under it the label of the vertical axis, upright: the parts and where they end."""
    parts: list[str] = []
    for line in wrapped(title, WIDTH - 8, FONT + 1.5):
        top += LINE
        parts.append(text(4.0, top - 4, line, style=f"font-weight:600;font-size:{FONT + 1:g}px"))
    for line in wrapped(y_label, WIDTH - 8):
        top += LINE
        parts.append(text(4.0, top - 4, line, style=f"fill:{MUTED}"))
    return parts, top


def no_data(title: str, x_label: str, why: str = "no data") -> str:
    """A plot that says that there is nothing to draw."""
    parts, top = headline(title)
    box = element(
        "rect", x=4.0, y=top + 6, width=WIDTH - 8, height=110.0, style=f"fill:none;stroke:{GRID}", rx=3.0
    )
    words = text(WIDTH / 2, top + 66, why, "middle", style=f"fill:{MUTED}")
    return document([*parts, box, words], top + 122, title or x_label or why, why)


@dataclass(frozen=True)
class Frame:
    """The rectangle of a plot, with a scale for each direction."""

    x: Scale
    y: Scale

    def clipped(self, content: str) -> str:
        """The content, cut at the frame: a nested ``<svg>`` clips without needing an id."""
        # Three units more on each side, so that dots on the border stay round.
        left, top = self.x.start - 3, self.y.end - 3
        width, height = self.x.end - left + 3, self.y.start - top + 3
        box = f"{left:g} {top:g} {width:g} {height:g}"
        return element("svg", content, x=left, y=top, width=width, height=height, viewBox=box)

    def vertical_grid(self, x_label: str, count: int = 6) -> tuple[list[str], float]:
        """Grid lines and labels of the horizontal axis, and its label: the parts and where they end."""
        ticks = self.x.ticks(count)
        while count > 2 and sum(text_width(label) + 14 for _, label in ticks) > self.x.end - self.x.start:
            count -= 1
            ticks = self.x.ticks(count)
        top, bottom = self.y.end, self.y.start
        path = "".join(f"M{self.x(v):.2f} {top:.2f}V{bottom + 4:.2f}" for v, _ in ticks)
        parts = [element("path", d=path, style=f"fill:none;stroke:{GRID}")]
        for value, label in ticks:
            half = text_width(label) / 2
            at = min(max(self.x(value), half), WIDTH - half)
            parts.append(text(at, bottom + LINE, label, "middle"))
        bottom += LINE + 4
        for line in wrapped(x_label, WIDTH - 8):
            bottom += LINE
            middle = (self.x.start + self.x.end) / 2
            half = text_width(line) / 2
            parts.append(
                text(min(middle, WIDTH - 4 - half), bottom - 2, line, "middle", style=f"fill:{MUTED}")
            )
        return parts, bottom + 4

    def horizontal_grid(self, ticks: Sequence[tuple[float, str]]) -> list[str]:
        """Grid lines and labels of the vertical axis."""
        path = "".join(f"M{self.x.start - 4:.2f} {self.y(v):.2f}H{self.x.end:.2f}" for v, _ in ticks)
        parts = [element("path", d=path, style=f"fill:none;stroke:{GRID}")]
        parts += [text(self.x.start - 8, self.y(v) + 5, label, "end") for v, label in ticks]
        return parts

    def border(self) -> str:
        """The two axis lines, left and below."""
        path = f"M{self.x.start:.2f} {self.y.end:.2f}V{self.y.start:.2f}H{self.x.end:.2f}"
        return element("path", d=path, style=f"fill:none;stroke:{AXIS}")
