"""Result files: written before anything is printed, and what could not be written is told after that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import typer

from deflow_cli.cli.console import show_path
from deflow_cli.errors import DataError
from deflow_cli.texts import encoded

WriteText = Callable[[Path | None, str], None]


@contextlib.contextmanager
def results_first() -> Iterator[WriteText]:
    """A function that writes a whole file or none (nothing for the path None), and says so on stderr.

    Neither costs the other: files come before the printing, which may fail; and where a file cannot be
    written, the block goes on to its printing. The DataError that names the file is raised at the end.
    """
    from deflow_cli.checkpoints.format import write_atomically

    failures: list[DataError] = []

    def write(path: Path | None, text: str) -> None:
        if path is None:
            return
        try:
            write_atomically(path, encoded(text))
            typer.echo(f"written: {show_path(path)}", err=True)
        except DataError as error:
            failures.append(error)

    yield write
    if failures:
        raise failures[0]
