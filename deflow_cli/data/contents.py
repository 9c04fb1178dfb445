"""Contents: what a set of data holds, as a short text for each of its files, and how two such sets differ.

A run that goes on compares them, so that it never goes on with other data unnoticed. A text has a file's size
and a checksum of both its ends: PNG and JPEG files that differ in their pixels nearly always differ in size,
and a PNG file ends with a checksum of all its pixels.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from deflow_cli.data.images.listing import name_some
from deflow_cli.errors import DataError

Contents = Mapping[str, str]  # name -> text of its content
_ENDS = 4096  # bytes of each end of a file


class FileSpan(NamedTuple):
    """A part of a file that is a file of its own. offset, size: in bytes."""

    path: Path
    offset: int
    size: int


def whole_file(path: Path) -> FileSpan:
    """A file as a span. Raises DataError naming it where it is missing."""
    try:
        return FileSpan(path, 0, path.stat().st_size)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def content_text(span: FileSpan) -> str:
    """Size and checksum of both ends. Raises DataError naming a file that cannot be read."""
    try:
        with span.path.open("rb") as file:
            file.seek(span.offset)
            ends = file.read(min(_ENDS, span.size))
            file.seek(span.offset + max(0, span.size - _ENDS))
            ends += file.read(min(_ENDS, span.size))
    except OSError as error:
        raise DataError(f"{span.path}: cannot be read ({error.strerror or error})") from error
    return f"{span.size} {zlib.crc32(ends):08x}"


def folder_contents(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """The contents of files below a folder, by relative path."""
    return {path.relative_to(folder).as_posix(): content_text(whole_file(path)) for path in paths}


def contents_digest(contents: Mapping[str, Contents]) -> str:
    """A short text that two sets of data share if their contents do. contents: by role."""
    text = json.dumps({role: dict(files) for role, files in contents.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def differing_contents(before: Contents, now: Contents) -> str:
    """How a set of data differs from what it was, in words; empty where it is the same.

    >>> differing_contents({"a.png": "9 0f", "b.png": "9 1f"}, {"a.png": "8 2f", "c.png": "9 1f"})
    '1 missing (b.png), 1 new (c.png), 1 with another content (a.png), of 2'
    """
    missing = sorted(before.keys() - now.keys())
    new = sorted(now.keys() - before.keys())
    changed = sorted(name for name in before.keys() & now.keys() if before[name] != now[name])
    words = ("missing", missing), ("new", new), ("with another content", changed)
    found = [f"{len(names)} {word} ({name_some(names)})" for word, names in words if names]
    return f"{', '.join(found)}, of {len(before)}" if found else ""
