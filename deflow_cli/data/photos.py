"""Packaged photographs: where the pictures with free terms lie, installed or in a checkout."""

from __future__ import annotations

from pathlib import Path

from deflow_cli.errors import DataError

_PACKAGE = Path(__file__).resolve().parents[1]


def weights_folder() -> Path:
    """The folder of embedded files: ``deflow_cli/_weights`` in a wheel, ``weights/`` in a checkout.

    Raises DataError if neither exists.
    """
    candidates = (_PACKAGE / "_weights", _PACKAGE.parent / "weights")
    for candidate in candidates:
        if (candidate / "manifest.toml").is_file():
            return candidate
    raise DataError(
        f"{candidates[0]}: the embedded files are missing (manifest.toml not found)",
        next_step="install deflow-cli again",
    )


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
