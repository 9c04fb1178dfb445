"""Errors: everything a user can mend, said as value, expectation and next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class DeflowError(Exception):
    """Base of all errors caused by input. ``str(error)`` is the message; ``next_step`` says what to do."""

    exit_code = 1

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.next_step = next_step


class DataError(DeflowError):
    """A file or folder of images cannot be used."""


class ConfigError(DeflowError):
    """An option, a preset or a value in one is wrong."""

    exit_code = 2


class CheckpointError(DeflowError):
    """A model or training-state file is missing, broken or of another kind."""


class DeviceError(DeflowError):
    """The requested device, precision or backend is not available."""


class ShapeError(DeflowError):
    """A tensor's shape does not fit."""


class TrainingError(DeflowError):
    """Training cannot go on."""


class ToldElsewhere(DeflowError):
    """Another process of a training failed, and says why itself."""

    def __init__(self, message: str, *, next_step: str = "", exit_code: int = 1) -> None:
        super().__init__(message, next_step=next_step)
        self.exit_code = exit_code


@contextmanager
def naming(
    path: object, errors: type[DeflowError] = DeflowError, *, but: tuple[type[DeflowError], ...] = ()
) -> Iterator[None]:
    """Put a file's name (``path``) before the message of an error raised by code that knows no paths.

    errors: the class that is renamed, with its subclasses; others pass. but: classes that pass although they
    belong to it, because their messages already begin with the file.

    >>> with naming("model.pth"):
    ...     raise CheckpointError("holds no state dict", next_step="export the weights alone")
    Traceback (most recent call last):
    deflow_cli.errors.CheckpointError: model.pth: holds no state dict
    """
    try:
        yield
    except but:
        raise
    except errors as error:
        raise type(error)(f"{path}: {error}", next_step=error.next_step) from error
