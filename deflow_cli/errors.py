"""Errors: everything a user can mend, said as value, expectation and next step."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager


class DeflowError(Exception):
    """Base of all errors caused by input. ``str(error)`` is the message; ``next_step`` says what to do.

    of_rank: whether one of the processes of a training has it, and not all of its machine alike.
    """

    exit_code = 1
    of_rank = False

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
    """The requested device, precision or backend is not available, or its memory does not suffice."""


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


_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def unwritable(path: object, error: OSError, *, next_step: str = "") -> DataError:
    """The error of a file or folder that the system does not let us write, with what can be done about that.

    next_step: what to do besides, such as how to go on once there is room.
    """
    if error.errno in _NOT_ALLOWED:
        first = "have the permission to write there changed, or write to another folder"
    else:
        first = "make room on that disk, or write to another folder"
    step = f"{first}; {next_step}" if next_step else first
    return DataError(f"{path}: cannot be written ({error.strerror or error})", next_step=step)


# -- memory -----------------------------------------------------------------------------------------------

_OUT_OF_MEMORY = (  # in what Python, NumPy, torch's CPU and CUDA allocators, cuBLAS, C++ and the loader say
    "allocate memory",
    "unable to allocate",
    "not enough memory",
    "out of memory",
    "alloc_failed",
    "bad_alloc",
    "bad allocation",
    "could not create a primitive",  # all that oneDNN, which computes convolutions on CPUs, says
    "can't start new thread",
    "failed to map segment",
)
_BYTES_ASKED = re.compile(r"tried to allocate (\d+) bytes")
_AMOUNT_ASKED = re.compile(r"(?:tried|unable) to allocate ([\d.]+ [KMGT]iB)", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on whatever device; several come as other classes.

    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    True
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    text = str(error).lower()
    is_kind = isinstance(error, RuntimeError | ImportError | OSError)
    return is_kind and any(sign in text for sign in _OUT_OF_MEMORY)


def memory_asked(error: BaseException) -> str:
    """How much memory was asked for in vain, in brackets after a blank; empty where the error does not tell.

    >>> memory_asked(RuntimeError("DefaultCPUAllocator: ... you tried to allocate 73728000 bytes."))
    ' (73.7 MB more were asked for)'
    """
    text = str(error)
    if found := _BYTES_ASKED.search(text):
        return f" ({int(found[1]) / 1e6:.1f} MB more were asked for)"
    if found := _AMOUNT_ASKED.search(text):
        return f" ({found[1]} more were asked for)"
    return ""


@contextmanager
def memory_advice(next_step: str) -> Iterator[None]:
    """Raise DeviceError with this next step where memory runs out inside; other errors pass.

    >>> with memory_advice("lower fit.batch_size"):
    ...     raise MemoryError
    Traceback (most recent call last):
    deflow_cli.errors.DeviceError: out of memory
    """
    try:
        yield
    except (MemoryError, RuntimeError, ImportError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(f"out of memory{memory_asked(error)}", next_step=next_step) from error
