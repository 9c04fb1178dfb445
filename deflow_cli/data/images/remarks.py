"""Remarks: what reading and writing images found worth saying, told to whoever runs the work.

Images are read deep inside the workflows and by several threads, where no reporter is at hand. ``remark`` can
be called anywhere; ``remarks_to`` says where the remarks go while a workflow runs.
"""

from __future__ import annotations

import functools
import inspect
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

_NAMED = 3  # files named for each kind of remark; the others are counted
_log = logging.getLogger("deflow")
_lock = threading.Lock()
P = ParamSpec("P")
R = TypeVar("R")
_listeners: list[_Listener] = []


class _Listener:
    """Passes on each remark once, and of each kind the first few."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._seen: set[tuple[str, Path | None]] = set()
        self._counts: Counter[str] = Counter()

    def hear(self, text: str, path: Path | None, kind: str) -> None:
        with _lock:
            if (kind, path) in self._seen:
                return
            self._seen.add((kind, path))
            self._counts[kind] += 1
            told = path is None or self._counts[kind] <= _NAMED
        if told:
            self._tell(text if path is None else f"{path}: {text}")

    def finish(self) -> None:
        for kind, count in self._counts.items():
            if count > _NAMED:
                self._tell(f"{count - _NAMED} more files: {kind}")


def remark(text: str, path: Path | None = None, kind: str = "") -> None:
    """Say something about a file, or about the whole work where ``path`` is None.

    kind: the text without what differs between files (default: the text), by which remarks are counted.
    Each kind is said once for a file. Without a listener the remark goes to the logger ``deflow``.
    """
    with _lock:
        listener = _listeners[-1] if _listeners else None
    if listener is None:
        _log.warning("%s", text if path is None else f"{path}: {text}")
    else:
        listener.hear(text, path, kind or text)


@contextmanager
def remarks_to(tell: Callable[[str], None]) -> Iterator[None]:
    """Pass remarks to ``tell``, from all threads, while the context lasts.

    Three files are named for each kind, and the others counted when the context ends. The innermost context
    hears; the list is one for the process, because pools of threads do not inherit context variables.

    >>> with remarks_to(print):
    ...     for number in range(5):
    ...         remark("is empty", Path(f"{number}.png"))
    0.png: is empty
    1.png: is empty
    2.png: is empty
    2 more files: is empty
    """
    listener = _Listener(tell)
    with _lock:
        _listeners.append(listener)
    try:
        yield
    finally:
        with _lock:
            _listeners.remove(listener)
        listener.finish()


class _Warns(Protocol):
    def warn(self, text: str) -> None: ...


def hears_remarks(work: Callable[P, R]) -> Callable[P, R]:
    """Decorate a workflow: its argument ``reporter``, where one is given, is warned of what is remarked."""
    signature = inspect.signature(work)

    @functools.wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        reporter: _Warns | None = signature.bind(*args, **kwargs).arguments.get("reporter")
        if reporter is None:
            return work(*args, **kwargs)
        with remarks_to(reporter.warn):
            return work(*args, **kwargs)

    return run
