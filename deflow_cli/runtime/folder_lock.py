"""Folder lock: one process at a time writes to a folder, and another that wants to learns which one does.

The lock is the system's, on an open file, so that it ends with its process however that ends: there are no
stale locks. What the file says only tells whose it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from deflow_cli.errors import DataError
from deflow_cli.texts import json_text

_MOST_CHARACTERS = 300  # of a command that a message shows
_LONGEST_RECORD = 1 << 16  # bytes read of a lock's file
_ATTEMPTS = 100  # at a file that ending processes remove meanwhile
_LOCKED_BYTE = 1 << 30  # on Windows, where nobody can read what is locked: far behind the record


class FolderInUseError(DataError):
    """Another process writes to a folder."""


class _HeldByAnotherError(Exception):
    """Another process has the lock. record: what its file says."""

    def __init__(self, record: str) -> None:
        super().__init__(record)
        self.record = record


if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error

else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def sole_writer(
    folder: Path,
    name: str,
    *,
    what: str,
    next_step: str,
    warn: Callable[[str], None] = lambda text: None,
) -> Iterator[None]:
    """Keep other processes that ask for the same lock from writing to ``folder`` meanwhile.

    name: of the lock's file, relative to the folder; both are made where they are missing, and what was made
    is removed again as far as it is empty then. what: what the other one is, for the message, such as "a
    deflow run". next_step: what to do, besides waiting for it. warn: is told where the file system cannot
    lock. Raises DataError, which names the other process, its machine, start and command, where there is one;
    and where the folder cannot be written to.
    """
    path = folder / name
    missing = [place for place in (path.parent, *path.parent.parents) if not place.exists()]
    try:
        descriptor = _opened(path, folder, warn)
    except _HeldByAnotherError as error:
        _remove_empty(missing)
        raise FolderInUseError(
            f"{folder}: {what} writes there already: {_owner(error.record)}",
            next_step=f"wait until that has ended, or {next_step}",
        ) from error
    except OSError as error:
        _remove_empty(missing)
        raise DataError(
            f"{folder}: cannot be a folder to write to ({error.strerror or error})", next_step=next_step
        ) from error
    try:
        yield
    finally:
        if os.name == "posix":  # before it is let go, lest the file of the next one be removed
            _remove(path)
            os.close(descriptor)
        else:
            os.close(descriptor)
            _remove(path)
        _remove_empty(missing)


def _opened(path: Path, folder: Path, warn: Callable[[str], None]) -> int:
    """The descriptor of the lock's file, locked and with this process's record."""
    for _ in range(_ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # a process that ended removed a folder that it had made
        except FileExistsError:
            if path.parent.exists() and not path.parent.is_dir():
                raise
            continue  # it was there when it was to be made, and gone when it was looked at
        try:
            _take(descriptor)
        except BlockingIOError as error:
            with contextlib.closing(os.fdopen(descriptor, "rb")) as file:
                record = file.read(_LONGEST_RECORD)
            raise _HeldByAnotherError(record.decode("utf-8", "replace")) from error
        except OSError as error:
            reason = error.strerror or str(error)
            warn(f"{folder}: its file system has no locks ({reason}); start no second run there")
        if _is_at(descriptor, path):
            _write_record(descriptor)
            return descriptor
        os.close(descriptor)  # its owner removed the file after we had opened it, so the lock is nobody's
    raise OSError("the lock's file comes and goes")


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _write_record(descriptor: int) -> None:
    record = {
        "process": os.getpid(),
        "machine": platform.node(),
        "since": datetime.now().astimezone().isoformat(" ", "seconds"),
        "command": _command(),
    }
    with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, json_text(record).encode())


def _command() -> str:
    """The command of this process, as it could be typed."""
    program, *arguments = sys.argv or [""]
    name = Path(program).name
    return shlex.join(["deflow" if name in ("deflow", "__main__.py") else name, *arguments])


def _owner(record: str) -> str:
    try:
        told = json.loads(record)
        command = str(told["command"])
        shown = command if len(command) <= _MOST_CHARACTERS else f"{command[:_MOST_CHARACTERS]}..."
        return f"process {told['process']} on {told['machine']} since {told['since']}: {shown}"
    except (ValueError, KeyError, TypeError):
        return "a process that has not said yet which it is"


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, innermost first, up to one that is not empty."""
    for folder in folders:
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return
