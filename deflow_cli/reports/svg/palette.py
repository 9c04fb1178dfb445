"""Palette: colours that survive dark mode, colour blindness and a page without style sheet."""

from __future__ import annotations

import math

# After Okabe and Ito (2008), darkened so that each keeps 3:1 on white; page.css lightens them for dark.
SERIES = ("#0072b2", "#c44e00", "#00805d", "#a0508c", "#8a6100", "#5b6168")
# Four series and more differ by pattern too; a plain dash is kept for Series(dashed=True).
PATTERNS = ("", "", "", "12 3 2 3", "2 3", "12 3 2 3 2 3")
DASH = "7 5"

INK = "var(--ink,#1d2329)"
MUTED = "var(--muted,#57606a)"
GRID = "var(--grid,#dfe3e8)"
AXIS = "var(--axis,#8b949e)"
# A cell without a value: a grey that the diverging colours do not have, the same in light and dark.
VOID = (150, 157, 165)

# ColorBrewer RdBu, eleven classes from negative to positive (Brewer and Harrower, colour-blind safe).
_DIVERGING = (
    (5, 48, 97),
    (33, 102, 172),
    (67, 147, 195),
    (146, 197, 222),
    (209, 229, 240),
    (247, 247, 247),
    (253, 219, 199),
    (244, 165, 130),
    (214, 96, 77),
    (178, 24, 43),
    (103, 0, 31),
)


def series_colour(index: int) -> str:
    """The CSS colour of the index-th series, with its fallback."""
    slot = index % len(SERIES)
    return f"var(--s{slot + 1},{SERIES[slot]})"


def series_pattern(index: int, dashed: bool = False) -> str | None:
    """The stroke-dasharray of the index-th series; None is a solid line. Twelve pairs with the colour."""
    if dashed:
        return DASH
    return PATTERNS[(index + 3 * (index // len(SERIES))) % len(PATTERNS)] or None


def diverging(position: float) -> tuple[int, int, int]:
    """RGB for a position in [-1, 1] (clamped): blue, near white at 0, red."""
    at = (min(1.0, max(-1.0, position)) + 1.0) / 2.0 * (len(_DIVERGING) - 1)
    lower = min(math.floor(at), len(_DIVERGING) - 2)
    share = at - lower
    low, high = _DIVERGING[lower], _DIVERGING[lower + 1]
    r, g, b = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return r, g, b


def hex_colour(rgb: tuple[int, int, int]) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def ink_on(rgb: tuple[int, int, int]) -> str:
    """Black or white, whichever stands out more on a colour (WCAG relative luminance)."""
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"
