"""Program: the command line in processes of their own, which begin at once because torch is loaded before."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.forking import FORKING

PATIENCE = 120  # seconds, that no test needs


@dataclass(frozen=True)
class Limits:
    """What a process may take. memory: bytes of address space beyond what it has. file: bytes of one file."""

    memory: int | None = None
    file: int | None = None


@dataclass(frozen=True)
class Ended:
    """code: of the exit; negative: the signal that ended it."""

    code: int
    out: str
    err: str


class Started:
    """A command that runs. stdout, stderr: files or devices; None: kept, to be read at the end."""

    def __init__(
        self,
        arguments: Sequence[object],
        folder: Path,
        limits: Limits = Limits(),
        stdout: Path | None = None,
        stderr: Path | None = None,
    ) -> None:
        number = len(list(folder.glob(".told-*")))
        self._out, self._err = folder / f".told-{number}-out", folder / f".told-{number}-err"
        places = str(stdout or self._out), str(stderr or self._err)
        for path in (self._out, self._err):
            path.touch()
        words = [str(word) for word in arguments]
        self._process = FORKING.Process(target=_run, args=(words, str(folder), limits, places))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ended(self) -> Ended:
        """Wait for the end."""
        self._process.join(PATIENCE)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            raise AssertionError(f"still running: {self._err.read_text()}")
        return Ended(code, *(path.read_bytes().decode("utf-8", "replace") for path in (self._out, self._err)))


def deflow(*arguments: object, folder: Path, limits: Limits = Limits(), **streams: Path) -> Ended:
    """Run a command in ``folder`` to its end."""
    return Started(arguments, folder, limits, **streams).ended()


def _run(words: list[str], folder: str, limits: Limits, places: tuple[str, str]) -> None:
    os.chdir(folder)
    os.environ["COLUMNS"] = "200"
    for descriptor, place in zip((1, 2), places, strict=True):
        opened = os.open(place, os.O_WRONLY)
        os.dup2(opened, descriptor)
        os.close(opened)
    _obey_permissions()
    import torch

    torch.set_num_threads(1)
    if limits.memory is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + limits.memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if limits.file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file, limits.file))
    sys.argv = ["deflow", *words]
    from deflow_cli.__main__ import main

    main()


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inherited", ctypes.c_uint32),
    )


def _obey_permissions() -> None:
    """Give up root's right to write where nobody may, so that read-only folders are read-only."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, both = _Header(0x20080522, 0), (_Capabilities * 2)()
    libc.capget(ctypes.byref(header), both)
    for kind in ("effective", "permitted"):  # of CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
        setattr(both[0], kind, getattr(both[0], kind) & ~0b1110)
    libc.capset(ctypes.byref(header), both)
