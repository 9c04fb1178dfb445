"""Tolerances: the table of docs/numerics.md, read by the tests that keep it."""

from __future__ import annotations

import re
from pathlib import Path

TABLE = Path(__file__).parents[2] / "docs" / "numerics.md"


def read_table() -> dict[str, float]:
    """Name -> tolerance of every row ``| `name` | what | 1e-5 | where |``."""
    rows = re.findall(r"^\| `([\w.]+)` \|[^|]*\| ([\d.e+-]+) \|", TABLE.read_text(), re.MULTILINE)
    return {name: float(value) for name, value in rows}


def tolerance(name: str) -> float:
    """Raises KeyError for a name that the table lacks."""
    return read_table()[name]
