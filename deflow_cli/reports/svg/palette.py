"""Palette: colours that survive dark mode and colour blindness."""

from __future__ import annotations

# After Okabe and Ito (2008), darkened so that each keeps 3:1 on white; page.css lightens them for dark mode.
SERIES = ("#0072b2", "#c44e00", "#00805d", "#a0508c", "#8a6100", "#5b6168")
# From the fourth series on, lines also differ by pattern; plain dashes are reserved for Series(dashed=True).
PATTERNS = ((), (), (), (12, 3, 2, 3), (2, 3), (12, 3, 2, 3, 2, 3))
DASHES = (7, 5)

INK = "#1d2329"
MUTED = "#57606a"
GRID = "#dfe3e8"
AXIS = "#8b949e"
VOID = "#969da5"  # a cell without a value: a grey that the diverging colours do not have


def series_colour(index: int) -> str:
    """The colour of the index-th series."""
    return SERIES[index % len(SERIES)]


def series_pattern(index: int, dashed: bool = False) -> tuple[int, ...]:
    """Lengths of dashes and spaces of the index-th series; empty for a solid line.

    Together with the colours this gives twelve different lines.
    """
    return DASHES if dashed else PATTERNS[(index + 3 * (index // len(SERIES))) % len(PATTERNS)]
