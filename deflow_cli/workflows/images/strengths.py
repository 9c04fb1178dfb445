"""Strengths: a sheet that shows the first images at several strengths of the degradation, to choose from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from deflow_cli.arrays import Pixels
from deflow_cli.data.images.files import Image, read_image, to_8_bit, write_image
from deflow_cli.data.images.outputs import PlannedOutput
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.reports.contact_sheet import contact_sheet
from deflow_cli.runtime.progress import Reporter

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
MOST_SHEET_ROWS = 4  # images of a sheet
STRENGTH_SIDE = 160  # px of an image that a sheet shows, from its middle

Render = Callable[[PlannedOutput, Image, float], Pixels]
"""Degrades a crop of an image at a strength: uint8 or uint16, H x W x 3."""


def check_sheet(path: Path) -> None:
    """Raise ConfigError for a sheet that is no PNG."""
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--sheet {path}: a sheet is a PNG", next_step="use a name with .png")


def write_strength_sheet(
    target: Path, planned: Sequence[PlannedOutput], render: Render, reporter: Reporter
) -> None:
    """Write the middle of the first images that can be read, as it is and at each of ``STRENGTHS``."""
    names, rows = [], []
    for item in planned:
        try:
            image = _middle(read_image(item.source))
            row = [to_8_bit(image.pixels), *(to_8_bit(render(item, image, each)) for each in STRENGTHS)]
        except DataError:
            continue  # the run itself says what is wrong with it
        names.append(item.source.stem[:16])
        rows.append(row)
        if len(rows) == MOST_SHEET_ROWS:
            break
    if rows:
        sheet = contact_sheet(rows, ["input", *(f"strength {each:g}" for each in STRENGTHS)], names)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_image(target, Image(sheet))
        reporter.note(f"sheet: {target}")


def _middle(image: Image) -> Image:
    height, width = image.pixels.shape[:2]
    top, left = (max(0, (side - STRENGTH_SIDE) // 2) for side in (height, width))
    return replace(
        image, pixels=image.pixels[top : top + STRENGTH_SIDE, left : left + STRENGTH_SIDE], alpha=None
    )
