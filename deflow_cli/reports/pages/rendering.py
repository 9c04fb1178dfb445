"""Rendering: a template and its values become one HTML file that needs nothing but itself."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

from deflow_cli.errors import ConfigError
from deflow_cli.reports.pages.pictures import data_uri, difference_picture
from deflow_cli.reports.pages.tables import cell_text
from deflow_cli.reports.svg.canvas import with_unique_ids

if TYPE_CHECKING:  # Jinja is imported when the first page is rendered: commands without a page do without
    from jinja2 import Environment, Template

CalloutKind = Literal["good", "note", "warn", "bad"]

CALLOUT_KINDS: dict[str, str] = {"good": "Good", "note": "Note", "warn": "Caution", "bad": "Problem"}
# The browser enforces that the page loads nothing except pictures embedded in it.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
# XML 1.0 forbids these even when escaped: control characters, and the lone surrogates by which Python
# represents undecodable bytes of file names.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Heading:
    """A heading of level 2 to 4, and the id that links lead to."""

    level: int
    anchor: str
    text: str


class Contents:
    """The headings of one page, in the order in which its template names them."""

    def __init__(self) -> None:
        self.headings: list[Heading] = []

    def add(self, text: str, level: int) -> str:
        """Register a heading and return its id, which no other heading has. Raises ConfigError otherwise."""
        if level not in (2, 3, 4):
            raise ConfigError(f"heading level {level}: 2, 3 or 4 is expected (1 is the page's title)")
        stem = "s-" + ("-".join(re.findall(r"[a-z0-9]+", text.lower())) or "section")
        taken = {heading.anchor for heading in self.headings}
        anchor, number = stem, 2
        while anchor in taken:
            anchor, number = f"{stem}-{number}", number + 1
        self.headings.append(Heading(level, anchor, text))
        return anchor


def render_page(template: str | Template, title: str, subtitle: str, values: Mapping[str, object]) -> str:
    """The document of a template in ``reports/templates`` that extends ``page.html``.

    All values are escaped, except SVG that the template passes to ``inline``. Characters that XML forbids
    become U+FFFD.
    """
    from markupsafe import Markup

    page = _environment().get_template(template)
    numbers = itertools.count(1)

    def inline(svg: str) -> Markup:
        return Markup(with_unique_ids(svg, f"p{next(numbers)}-"))

    text = page.render(title=title, subtitle=subtitle, contents=Contents(), inline=inline, **values)
    return _FORBIDDEN.sub("\ufffd", text)


@cache
def _environment() -> Environment:
    """The templates with the filters and globals that ``components.html`` uses."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("deflow_cli.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cell": cell_text,
        "data_uri": data_uri,
        "kind_in_words": _kind_in_words,
        "paragraphs": _paragraphs,
        "whole_scale": _whole_scale,
    }
    environment.globals |= {
        "difference_picture": difference_picture,
        "policy": POLICY,
        "script": Markup(_resource("page.js")),
        "style": Markup(_resource("page.css")),
    }
    return environment


def _paragraphs(text: str) -> list[str]:
    """Paragraphs are separated by blank lines."""
    blocks = (block.strip() for block in re.split(r"\n\s*\n", text))
    return [block for block in blocks if block]


def _kind_in_words(kind: str) -> str:
    if kind not in CALLOUT_KINDS:
        raise ConfigError(f"callout kind {kind!r}: one of {', '.join(CALLOUT_KINDS)} is expected")
    return CALLOUT_KINDS[kind]


def _whole_scale(scale: int) -> int:
    if scale < 1:
        raise ConfigError(f"picture scale {scale}: a whole number of at least 1 is expected")
    return scale


def _resource(name: str) -> str:
    return files("deflow_cli.reports").joinpath("templates", name).read_text(encoding="utf-8")
