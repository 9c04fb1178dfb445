"""Markup: hostile text made safe, and elements built from it."""

from __future__ import annotations

import html
import re

# What XML 1.0 forbids even when escaped: control characters, and the lone surrogates that stand for
# undecodable bytes in file names.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def escaped(text: object) -> str:
    """Text for an element or a quoted attribute; characters that XML forbids become U+FFFD."""
    return html.escape(_FORBIDDEN.sub("\ufffd", str(text)), quote=True)


def number(value: float) -> str:
    """A coordinate with at most two decimals, without trailing zeros."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def element(tag: str, content: str = "", /, **attributes: object) -> str:
    """``<tag name="value">content</tag>``: content is markup, attribute values are escaped.

    ``class_`` stands for ``class``, ``stroke_width`` for ``stroke-width``; None leaves an attribute out.
    """
    parts = [tag]
    for name, value in attributes.items():
        if value is None:
            continue
        text = number(value) if isinstance(value, float) else escaped(value)
        parts.append(f'{name.rstrip("_").replace("_", "-")}="{text}"')
    return f"<{' '.join(parts)}>{content}</{tag}>"
