"""Streams: results reach the standard output whatever it can show; where it cannot be written, that is told.

Messages on the standard error are lost where that cannot be written, and the work goes on. An output encoding
that lacks a symbol (cp1252, latin-1, ASCII) gets the nearest text of ASCII in its place, and bytes of a file
name that are no UTF-8 are shown as ``\\xe9``.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterator

from deflow_cli.errors import DataError

_SHOWN = "deflow.shown"  # name of the handler of characters that an encoding lacks
_LIKENESSES = {
    "↑": "^",
    "↓": "v",
    "→": "->",
    "←": "<-",
    "×": "x",
    "±": "+/-",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "·": "*",
    "•": "*",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "µ": "u",
    "μ": "u",
}
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STDERR = 2  # the number of its descriptor
_ESCAPED_BYTES = range(0xDC80, 0xDD00)  # how Python keeps bytes of a file name that are no UTF-8


def prepare_streams() -> None:
    """Let the standard streams show any text, and tell where the standard output takes no more.

    Their encodings stay as they are; what those lack is replaced, instead of raising UnicodeEncodeError.
    """
    _open_closed_descriptors()
    codecs.register_error(_SHOWN, _replacement)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _Messages(sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _Output(sys.stdout)


def _open_closed_descriptors() -> None:
    """Let streams that were closed (``deflow ... 2>&-``) lead nowhere.

    The next file that is opened would otherwise take a stream's place, and C libraries would write their
    messages into it.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    while nowhere <= _STDERR:  # the lowest number that is free
        nowhere = os.dup(nowhere)
    os.close(nowhere)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (as long as the program runs)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


class _Stream(io.TextIOWrapper):
    """A standard stream that shows any text."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream  # which would close the file behind both if it went away
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors=_SHOWN,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )

    def __del__(self) -> None:
        """Leave the file open, which is not this object's."""
        with contextlib.suppress(OSError, ValueError):
            self.detach()

    def _give_up(self) -> None:
        """Let what is left go nowhere: otherwise Python tries again when it ends, and prints a traceback."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


class _Messages(_Stream):
    """A standard error that takes what it can: a disk that is full costs messages, and no results."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._give_up()


class _Output(_Stream):
    """A standard output whose errors are told as others are.

    A reader that has gone (``deflow ... | head``) is no error of ours: typer ends the program quietly.
    """

    def write(self, text: str, /) -> int:
        if text == "":  # click asks so whether this is a stream of text, and wants no answer from the device
            return 0
        with self._told():
            return super().write(text)

    def flush(self) -> None:
        with self._told():
            super().flush()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            self._give_up()
            raise DataError(
                f"the standard output cannot be written ({error.strerror or error})",
                next_step="make room on that disk, or send the output elsewhere",
            ) from error


def _replacement(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_likeness(character) for character in lacking), error.end


def _likeness(character: str) -> str:
    """A text in ASCII like a character: without its accents, or a question mark."""
    if ord(character) in _ESCAPED_BYTES:
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character in _LIKENESSES:
        return _LIKENESSES[character]
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


def visible(text: str) -> str:
    """A text whose control characters, other than tabs and ends of lines, are shown and not obeyed.

    Names of files and titles in models come from others, and may hold commands to the terminal.

    >>> visible("a\\x1b[2Jb.png")
    'a\\\\x1b[2Jb.png'
    """
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def can_show(text: str) -> bool:
    """Whether the standard output's encoding has all characters of a text."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
