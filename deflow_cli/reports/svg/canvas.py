"""Canvas: a Matplotlib figure becomes an ``<svg>`` that fits a page, in light and in dark mode."""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deflow_cli.reports.svg.palette import AXIS, GRID, INK, MUTED, SERIES

if TYPE_CHECKING:  # Matplotlib takes longer to import than many commands run: it waits for the first plot
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

WIDTH = 480  # units of the view box; the page scales it
LINE = 20  # units between two lines of text
CHARACTERS = 52  # of a line that fits the width
# Beyond these magnitudes squares overflow or underflow: such values count as infinite and as zero.
HUGE, TINY = 1e140, 1e-140

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# The page defines the variables, with other values for dark mode; the fallback serves everywhere else.
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", AXIS: "axis"} | {
    colour: f"s{number}" for number, colour in enumerate(SERIES, start=1)
}


def _settings() -> AbstractContextManager[None]:
    """Matplotlib's settings for all plots, valid within the context."""
    from matplotlib import rc_context

    return rc_context(
        {
            "svg.fonttype": "none",  # text stays text
            "svg.hashsalt": "deflow",  # the same data give the same ids, hence the same bytes
            "text.parse_math": False,  # a dollar in a file name is no formula
            "font.size": 14,
            "axes.titlesize": 15,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelcolor": MUTED,
            "axes.edgecolor": AXIS,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.formatter.useoffset": False,
            "axes.formatter.limits": (-15, 15),
            "grid.color": GRID,
            "text.color": INK,
            "xtick.color": AXIS,
            "ytick.color": AXIS,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "xtick.major.size": 0,
            "ytick.major.size": 0,
            "xtick.minor.size": 0,
            "ytick.minor.size": 0,
            "legend.frameon": False,
            "legend.borderaxespad": 0,
            "image.composite_image": False,
        }
    )


class Canvas:
    """One figure with one pair of axes, as a context manager: its settings hold while it is drawn.

    height: of the figure, in units of the view box, to which ``title`` adds its lines.
    """

    def __init__(self, height: float, title: str) -> None:
        self.title = printable(title)
        lines = textwrap.wrap(self.title, CHARACTERS)
        self._headline, self._height = "\n".join(lines), height + LINE * len(lines)
        self._settings = _settings()
        self.figure: Figure
        self.axes: Axes
        self._backend: FigureCanvasSVG

    def __enter__(self) -> Canvas:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        self._settings.__enter__()
        self.figure = Figure(figsize=(WIDTH / 72, self._height / 72), dpi=72, layout="constrained")
        self._backend = FigureCanvasSVG(self.figure)
        self.figure.patch.set_visible(False)
        self.axes = self.figure.add_subplot()
        self.axes.patch.set_visible(False)
        return self

    def __exit__(self, *error: object) -> None:
        self._settings.__exit__(None, None, None)

    def legend(self, lines: Sequence[Line2D] | None = None, columns: int = 1) -> None:
        """What the lines mean (default: all with a label), under the title and above the frame."""
        # The title belongs to the legend: the layout would put a title of the figure in the same place.
        legend = self.figure.legend(
            handles=lines if lines is not None else self.axes.get_legend_handles_labels()[0],
            loc="outside upper left",
            ncols=columns,
            columnspacing=1,
            handlelength=2.2,
            title=self._headline or None,
            alignment="left",
        )
        legend.get_title().set(size=15, weight="bold")

    def svg(self, title: str, description: str) -> str:
        """The figure as ``<svg>`` with a title and a description for screen readers."""
        if self._headline and not self.figure.legends:
            self.figure.suptitle(self._headline, x=0.01, ha="left", size=15, weight="bold")
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            # The browser has glyphs that the font used for measuring lacks.
            warnings.filterwarnings("ignore", message=r"(?s)Glyph .* missing from")
            # Figure.savefig would draw everything twice, though the layout is part of drawing anyway.
            self._backend.print_svg(buffer, metadata={"Date": None})
        return _embeddable(buffer.getvalue(), printable(title), printable(description))


def _embeddable(svg: bytes, title: str, description: str) -> str:
    """The figure without prolog, metadata, style sheet and size, in the colours of the page."""
    root = ET.fromstring(svg)
    for child in [*root.findall(_SVG + "metadata"), *root.findall(f"{_SVG}defs")[:1]]:
        root.remove(child)
    used = set(re.findall(r"#([a-z0-9]+)", svg.decode()))
    for node in root.iter():
        if node.get("id") not in used:
            node.attrib.pop("id", None)
        if _HREF in node.attrib:
            node.set("href", node.attrib.pop(_HREF))
        if "style" in node.attrib:
            node.set("style", _in_page_colours(node.attrib["style"]))
        if node.tag != _SVG + "text":
            node.text = None
        elif node.text is not None:
            node.text = node.text.strip("\n")
        node.tail = None
        if "d" in node.attrib:
            node.set("d", " ".join(re.sub(r"(\.\d\d)\d+", r"\1", node.attrib["d"]).split()))
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "class": "plot"}
    root.set("style", "stroke-linejoin:round;stroke-linecap:butt;fill:var(--ink,#1d2329)")
    for place, (tag, words) in enumerate((("title", title), ("desc", description))):
        node = ET.Element(_SVG + tag)
        node.text = words
        root.insert(place, node)
    ET.register_namespace("", _SVG.strip("{}"))
    return ET.tostring(root, encoding="unicode")


def _in_page_colours(style: str) -> str:
    style = re.sub(r"font-family: [^;]*", "font-family: system-ui,sans-serif", style)
    return re.sub(
        r"#[0-9a-f]{6}",
        lambda found: f"var(--{_VARIABLES[found[0]]},{found[0]})" if found[0] in _VARIABLES else found[0],
        style,
    )


def with_unique_ids(svg: str, prefix: str) -> str:
    """The plot with a prefix to all its ids, so that a page can hold it several times."""
    return re.sub(
        r"<[^>]*>", lambda tag: re.sub(r'(\sid="|\shref="#|url\(#)', rf"\g<1>{prefix}", tag[0]), svg
    )


def no_data(title: str, x_label: str, why: str = "no data") -> str:
    """A plot that says that there is nothing to draw."""
    with Canvas(120, title) as canvas:
        canvas.axes.set(xticks=[], yticks=[])
        canvas.axes.text(0.5, 0.5, why, ha="center", va="center", transform=canvas.axes.transAxes)
        return canvas.svg(title or x_label or why, why)


def printable(text: str) -> str:
    """The text with U+FFFD for what XML forbids: control characters and undecodable bytes of file names."""
    return _FORBIDDEN.sub("\ufffd", text)


def shortened(text: str, most: int) -> str:
    """At most so many characters, cut in the middle: the ends of file names tell them apart."""
    text = printable(text)
    if len(text) <= most:
        return text
    return text[: most // 2] + "…" + text[len(text) - (most - 1) // 2 :]


def wrapped(text: str) -> str:
    """The text in lines that fit the width."""
    return "\n".join(textwrap.wrap(printable(text), CHARACTERS))


def usable(values: Iterable[float], log: bool = False) -> NDArray[np.float64]:
    """The values with NaN for what cannot be drawn: infinite, or not positive on a logarithmic axis."""
    found = np.array([float(value) for value in values], dtype=np.float64)
    found[~(np.abs(found) < HUGE)] = np.nan
    found[np.abs(found) < TINY] = 0.0
    if log:
        found[found <= 0] = np.nan
    return found


def finite(values: Iterable[float]) -> list[float]:
    """The values that can be drawn."""
    found = usable(values)
    return found[np.isfinite(found)].tolist()


def fitted_range(
    values: Sequence[float], given: tuple[float, float] | None, log: bool = False, pad: float = 0.04
) -> tuple[float, float] | None:
    """The range of an axis: the given one, or that of the values with some room; None without values."""
    if given is not None:
        limits = usable(given, log)
        if np.isfinite(limits).all() and _distinct(limits.min(), limits.max()):
            return float(limits.min()), float(limits.max())
    found = usable(values, log)
    found = found[np.isfinite(found)]
    if not found.size:
        return None
    low, high = float(found.min()), float(found.max())
    if log:
        room = (high / low) ** pad if high > low * (1 + 1e-9) else 2.0
        return low / room, high * room
    room = pad * (high - low) if _distinct(low, high) else max(abs(low), abs(high)) * 0.1 or 0.5
    return low - room, high + room


def _distinct(low: float, high: float) -> bool:
    """Whether there is room for ticks between two numbers."""
    return bool(high - low > 1e-12 * max(abs(low), abs(high)))


def set_scale(axes: Axes, axis: str, limits: tuple[float, float], log: bool, count: int = 6) -> None:
    """Give an axis ("x" or "y") its range, and at most about ``count`` ticks at round values."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    one = axes.xaxis if axis == "x" else axes.yaxis
    (axes.set_xscale if axis == "x" else axes.set_yscale)("log" if log else "linear")
    (axes.set_xlim if axis == "x" else axes.set_ylim)(*limits)
    decades = math.log10(limits[1] / limits[0]) if log else 0.0
    if log and decades >= 0.5:
        one.set_major_locator(LogLocator(subs=(1,) if decades > 2 else (1, 2, 5), numticks=count))
    else:
        one.set_major_locator(MaxNLocator(count, steps=[1, 2, 5, 10]))
    one.set_minor_locator(NullLocator())
    far = max(map(abs, limits)) >= 1e6 or max(map(abs, limits)) < 1e-3
    if log or far:
        one.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))


def tick_text(value: float) -> str:
    """The number of a tick; powers of ten where it is very large or small."""
    if value == 0.0 or 1e-3 <= abs(value) < 1e5:
        text = f"{value:.10g}"
    else:
        exponent = math.floor(math.log10(abs(value)) + 1e-9)
        mantissa = f"{value / 10.0**exponent:.8g}"
        power = "10" + str(exponent).translate(_SUPERSCRIPTS)
        text = power if mantissa == "1" else f"-{power}" if mantissa == "-1" else f"{mantissa}·{power}"
    return text.replace("-", "−")


def short_number(value: float) -> str:
    """Four significant digits; ∞ and – for what is not finite."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.4g}".replace("-", "−")
