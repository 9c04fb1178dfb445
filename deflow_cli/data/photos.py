"""Packaged photographs: where the pictures with free terms lie, installed or in a checkout."""

from __future__ import annotations

from pathlib import Path

from deflow_cli.errors import DataError
from deflow_cli.paths import weights_folder


def packaged_photos() -> tuple[list[Path], list[Path]]:
    """The packaged photographs, sorted: (half A, clean; half B, to be degraded).

    The halves share no photograph. Origins and terms: ``weights/photos/CARD.md``. Raises DataError if a
    half is empty.
    """
    photos = weights_folder() / "photos"
    halves = []
    for half in ("clean", "to_degrade"):
        files = sorted((photos / half).glob("*.png"))
        if not files:
            raise DataError(
                f"{photos / half}: no packaged photograph found", next_step="install deflow-cli again"
            )
        halves.append(files)
    return halves[0], halves[1]
