"""The model that is used when none is named."""

from __future__ import annotations

from pathlib import Path

from deflow_cli.checkpoints.registry import FoundModel, find_model
from deflow_cli.errors import DataError
from deflow_cli.paths import weights_folder


def default_model(given: Path | None) -> FoundModel:
    """The given model, else the newest fit below the working directory, else the embedded model.

    Raises CheckpointError if there is none.
    """
    try:
        embedded = weights_folder()
    except DataError:
        embedded = None
    return find_model(given, Path.cwd(), embedded)
