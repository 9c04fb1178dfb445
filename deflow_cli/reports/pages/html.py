"""Page: a report as one HTML file that needs nothing but itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Literal

from deflow_cli.errors import ConfigError
from deflow_cli.reports.pages.markup import element, escaped
from deflow_cli.reports.pages.pictures import Pixels, checked, data_uri, difference_picture
from deflow_cli.reports.pages.tables import Cell, cell_text, table_markup

Kind = Literal["good", "note", "warn", "bad"]

KINDS = {"good": "Good", "note": "Note", "warn": "Caution", "bad": "Problem"}
# The page may load pictures from itself and nothing from anywhere else: the browser holds us to it.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)


class Page:
    """A report, built from top to bottom; ``render`` gives the document.

    Every text is escaped. Figures are SVG from ``plots``; pictures are uint8 H x W x 3 RGB or H x W grey.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._parts: list[str] = []
        self._headings: list[tuple[int, str, str]] = []

    def heading(self, text: str, level: int = 2) -> None:
        """A heading of level 2 to 4; level 2 and 3 stand in the table of contents."""
        if level not in (2, 3, 4):
            raise ConfigError(f"heading level {level}: 2, 3 or 4 is expected (1 is the page's title)")
        name = self._anchor(text)
        self._headings.append((level, name, text))
        self._parts.append(element(f"h{level}", escaped(text), id=name))

    def text(self, text: str) -> None:
        """Paragraphs, separated by blank lines."""
        self._parts += _paragraphs(text)

    def callout(self, text: str, kind: Kind = "note") -> None:
        """A sentence to act on; its kind is said in words as well as in colour."""
        if kind not in KINDS:
            raise ConfigError(f"callout kind {kind!r}: one of {', '.join(KINDS)} is expected")
        label = element("strong", KINDS[kind])
        self._parts.append(element("div", label + "".join(_paragraphs(text)), class_=f"callout {kind}"))

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        caption: str = "",
        notes: Sequence[str] = (),
        digits: Sequence[int | None] | None = None,
    ) -> None:
        """A table, sortable by its headers; numbers stand right, ``digits`` gives a column's decimals.

        Cells are text, numbers, None (nothing to say), or ``tables.Undefined(reason)``: a dash with the
        reason as a footnote. Infinity is ∞, NaN a dash explained below the table. Raises ShapeError for
        rows of another length than ``columns``.
        """
        self._parts.append(table_markup(columns, rows, caption, notes, digits))

    def figure(self, svg: str, caption: str = "") -> None:
        """One plot."""
        self._parts.append(_figure(svg, caption, "figure"))

    def figures(self, plots: Sequence[tuple[str, str]]) -> None:
        """Plots with captions, side by side where there is room."""
        grid = "".join(_figure(svg, caption, "figure") for svg, caption in plots)
        self._parts.append(element("div", grid, class_="grid"))

    def pictures(
        self,
        pictures: Sequence[tuple[str, Pixels]],
        caption: str = "",
        scale: int = 1,
        jpeg_above: int | None = None,
    ) -> None:
        """Labelled pictures in rows, lossless, each pixel ``scale`` wide where the screen allows.

        jpeg_above: pictures of more pixels than this are embedded as JPEG (q92) instead of PNG.
        """
        items = []
        for label, pixels in pictures:
            picture = _picture(label, pixels, scale, jpeg_above)
            words = element("figcaption", escaped(label))
            style = f"width:{pixels.shape[1] * scale}px"
            items.append(element("figure", picture + words, class_="picture", style=style))
        row = element("div", "".join(items), class_="pictures")
        words = element("figcaption", escaped(caption)) if caption else ""
        self._parts.append(element("figure", row + words, class_="set"))

    def compare(
        self,
        label_a: str,
        a: Pixels,
        label_b: str,
        b: Pixels,
        caption: str = "",
        gain: float = 4,
        jpeg_above: int | None = None,
    ) -> None:
        """Two pictures of one size and 128 + gain * (a - b), zoomed and moved together.

        Without JavaScript the three simply stand there. Raises ShapeError where the sizes differ.
        """
        difference = difference_picture(a, b, gain)
        height, width = checked(a).shape[:2]
        title = f"Difference: {label_a} − {label_b}, {gain:g} times, zero is mid-grey"
        panes = ""
        for label, pixels in ((label_a, a), (label_b, b), (title, difference)):
            picture = _picture(label, pixels, 1, jpeg_above)
            pane = element("div", picture, class_="pane")
            words = element("figcaption", escaped(label))
            panes += element("figure", pane + words, class_="picture", style=f"--ratio:{width / height:.4f}")
        words = element("figcaption", escaped(caption)) if caption else ""
        group = element("div", panes, class_="panes")
        self._parts.append(element("figure", group + words, class_="compare", data_width=width))

    def facts(self, facts: Mapping[str, Cell]) -> None:
        """Names and values."""
        rows = "".join(
            element("div", element("dt", escaped(name)) + element("dd", escaped(cell_text(value))))
            for name, value in facts.items()
        )
        self._parts.append(element("dl", rows, class_="facts"))

    def details(self, summary: str, text: str) -> None:
        """Text that is folded away until asked for; its line breaks are kept."""
        words = element("summary", escaped(summary)) + element("div", escaped(text), class_="folded")
        self._parts.append(element("details", words))

    def render(self) -> str:
        """The whole document."""
        subtitle = element("p", escaped(self.subtitle), class_="subtitle") if self.subtitle else ""
        head = element("header", element("h1", escaped(self.title)) + subtitle)
        body = head + self._contents() + element("main", "\n".join(self._parts))
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
            f"<title>{escaped(self.title)}</title>\n<style>\n{_resource('page.css')}</style>\n</head>\n"
            f"<body>\n{body}\n<script>\n{_resource('page.js')}</script>\n</body>\n</html>\n"
        )

    def _anchor(self, text: str) -> str:
        """An id from the text, unlike all before."""
        stem = "-".join(re.findall(r"[a-z0-9]+", text.lower())) or "section"
        taken = {name for _, name, _ in self._headings}
        name, number = f"s-{stem}", 2
        while name in taken:
            name, number = f"s-{stem}-{number}", number + 1
        return name

    def _contents(self) -> str:
        """Links to the headings, where there are more than three."""
        listed = [(level, name, text) for level, name, text in self._headings if level < 4]
        if len(self._headings) <= 3:
            return ""
        links = "".join(
            element("li", element("a", escaped(text), href=f"#{name}"), class_=f"level{level}")
            for level, name, text in listed
        )
        return element("nav", element("strong", "Contents") + element("ul", links), aria_label="Contents")


def _paragraphs(text: str) -> list[str]:
    blocks = (block.strip() for block in re.split(r"\n\s*\n", text))
    return [element("p", escaped(block)) for block in blocks if block]


def _figure(svg: str, caption: str, class_: str) -> str:
    words = element("figcaption", escaped(caption)) if caption else ""
    return element("figure", svg + words, class_=class_)


def _picture(label: str, pixels: Pixels, scale: int, jpeg_above: int | None) -> str:
    """An ``<img>`` of its natural size times scale, never wider than its place."""
    if scale < 1:
        raise ConfigError(f"picture scale {scale}: a whole number of at least 1 is expected")
    height, width = checked(pixels).shape[:2]
    smooth = "" if scale == 1 else ' class="pixelated"'
    return (
        f'<img src="{data_uri(pixels, jpeg_above)}" alt="{escaped(label)}" width="{width * scale}" '
        f'height="{height * scale}"{smooth}>'
    )


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
