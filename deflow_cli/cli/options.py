"""Options: what several commands share, and the checks that need no torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from deflow_cli.cli.guard import add_debug
from deflow_cli.errors import CheckpointError, ConfigError, DataError
from deflow_cli.paths import MODEL_FILE, is_hub_name

Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", callback=add_debug, is_eager=True)
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.", metavar="DEVICE")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]

AcceptChangedData = Annotated[
    bool,
    typer.Option(
        "--accept-changed-data",
        help="With --resume: go on even though the images are not those that the run began with.",
    ),
]


def check_device(device: str) -> str:
    """The device as given. Raises ConfigError for a name that can be none."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ConfigError(f"--device is {device!r}", next_step="use auto, cpu, cuda or cuda:N")
    return device


def check_folder(path: Path, name: str, of: str = "images") -> Path:
    """The folder as given. name: of the option. of: what it holds. Raises DataError if there is none."""
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "no such folder"
        raise DataError(f"{path}: {what}", next_step=f"pass a folder of {of} as {name}")
    return path


def check_source(path: Path, name: str = "IN") -> Path:
    """The image or folder as given. Raises DataError if there is none."""
    if not path.exists():
        raise DataError(
            f"{path}: no such file or folder", next_step=f"pass an image or a folder of images as {name}"
        )
    return path


def model_file(path: Path) -> Path:
    """A model file, the one in a run folder, or a name on the Hub. Raises CheckpointError for none."""
    if is_hub_name(path):
        return path
    inside = path / MODEL_FILE
    if path.is_dir() and inside.is_file():
        return inside
    if not path.is_file():
        reason = f"a folder without {MODEL_FILE}" if path.is_dir() else "no such model"
        raise CheckpointError(
            f"{path}: {reason}", next_step=f"pass a {MODEL_FILE} or a run folder that holds one"
        )
    return path
