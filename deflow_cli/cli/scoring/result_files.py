"""Result files: written before anything is printed, and what could not be written is told after that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import typer

from deflow_cli.cli.console import show_path
from deflow_cli.cli.guard import FREE_MEMORY
from deflow_cli.errors import DeflowError, DeviceError, is_out_of_memory, memory_asked
from deflow_cli.texts import encoded


class ResultFiles:
    """Writes files, and keeps the errors of those that could not be made or written."""

    def __init__(self) -> None:
        self.failures: list[DeflowError] = []

    def write(self, path: Path | None, make: Callable[[], str]) -> None:
        """Make a text and write it, whole or not at all, and say so on stderr; nothing for the path None."""
        if path is not None:
            self.attempt(path, lambda: self._write(path, make()))

    def attempt(self, path: Path, action: Callable[[], None]) -> None:
        """Do what writes to a file or folder; lack of room and of memory are errors that are kept."""
        try:
            action()
        except DeflowError as error:
            self.failures.append(error)
        except (MemoryError, RuntimeError, ImportError, OSError) as error:
            if not is_out_of_memory(error):
                raise
            text = f"{path}: out of memory while it is made{memory_asked(error)}"
            self.failures.append(DeviceError(text, next_step=FREE_MEMORY))

    @staticmethod
    def _write(path: Path, text: str) -> None:
        from deflow_cli.checkpoints.format import write_atomically

        write_atomically(path, encoded(text))
        typer.echo(f"written: {show_path(path)}", err=True)


@contextlib.contextmanager
def results_first() -> Iterator[ResultFiles]:
    """Files that are written before something is printed, so that neither costs the other.

    The printing may fail, and then the files are there; where a file fails, the block goes on to its
    printing, and the error that names the file is raised at the end.
    """
    files = ResultFiles()
    yield files
    if files.failures:
        raise files.failures[0]
