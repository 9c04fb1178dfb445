"""Listing: the image files below a folder, each real file once, and what was left out."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deflow_cli.data.images.formats.known import name_unread, read_suffixes
from deflow_cli.data.images.remarks import remark
from deflow_cli.errors import DataError

_NAMED = 3
_Identity = tuple[int, int]  # device and inode: what makes two paths one file


def name_some(items: Iterable[object], limit: int = _NAMED) -> str:
    """The first few of many, and how many more."""
    shown = [str(item) for item in items]
    rest = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {rest} more" if rest > 0 else "")


@dataclass
class _Walk:
    """A tree as it was found. Paths through links come after all those without, so that those are preferred.

    files: each with its identity. unread: suffixes of the other files. upward: links to folders that contain
    the walked one. strange: what is no regular file.
    """

    files: list[tuple[Path, _Identity]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    dangling: list[Path] = field(default_factory=list)
    upward: list[Path] = field(default_factory=list)
    strange: list[Path] = field(default_factory=list)
    closed: list[tuple[Path, str]] = field(default_factory=list)


def list_images(folder: Path, *, aliases: bool = False) -> list[Path]:
    """Image files under ``folder``, sorted by relative path; hidden files and folders are skipped.

    A real file is listed once, however many links lead to it, under a path without links if it has one. Links
    that lead out of the folder are followed, but not to a folder that contains it, which would take in its
    neighbours; each folder is entered once, so circles end. aliases: list a file under all names that it has
    in the folders entered, for data whose names matter, as those of references do. What is left out is
    remarked on: links that lead nowhere or upward, further names of a file, folders that cannot be opened,
    pictures of formats that are not read.

    Raises DataError if the folder is missing or is a file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder}: {what}", next_step="pass a folder of images")
    walk = _walk(folder)
    found: list[Path] = []
    repeated: list[Path] = []
    known: set[_Identity] = set()
    for path, identity in walk.files:
        if identity in known and not aliases:
            repeated.append(path)
            continue
        if identity[1]:  # file systems without inodes say 0
            known.add(identity)
        found.append(path)
    _tell(folder, walk, repeated)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _tell(folder: Path, walk: _Walk, repeated: list[Path]) -> None:
    def names(paths: Iterable[Path]) -> str:
        return name_some(path.relative_to(folder) for path in paths)

    if walk.dangling:
        remark(f"links that lead to nothing ({len(walk.dangling)}): {names(walk.dangling)}", folder, "links")
    if walk.upward:
        remark(f"links to a folder that contains it are not followed: {names(walk.upward)}", folder, "upward")
    if repeated:
        remark(
            f"left out, further names of files that are used already ({len(repeated)}): {names(repeated)}",
            folder,
            "further names",
        )
    if walk.strange:
        remark(f"left out, not regular files: {names(walk.strange)}", folder, "no regular files")
    for path, reason in walk.closed:
        remark(f"left out, it cannot be opened ({reason})", path)
    if unread := name_unread(walk.unread):
        remark(f"pictures of formats that are not read were left alone: {unread}", folder, "not read")


def _walk(folder: Path) -> _Walk:
    walk = _Walk()
    entered: set[_Identity] = set()
    root = folder.resolve()
    waiting = deque([folder])  # the folder, then links to folders: those found last wait longest
    while waiting:
        start = waiting.popleft()
        links: list[Path] = []
        pending = [start]
        while pending:
            current = pending.pop()
            try:
                identity = _identity(os.stat(current))
                if identity in entered:
                    continue
                entries = sorted(os.scandir(current), key=lambda entry: entry.name)
            except OSError as error:
                walk.closed.append((current, error.strerror or str(error)))
                continue
            if identity[1]:
                entered.add(identity)
            pending += reversed(list(_sort_in(entries, walk, links)))
        _follow(links, root, walk, waiting)
    return walk


def _sort_in(entries: Iterable[os.DirEntry[str]], walk: _Walk, links: list[Path]) -> Iterator[Path]:
    """Put the entries of a folder where they belong; yields its real folders."""
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        if entry.is_symlink():
            links.append(path)
        elif entry.is_dir(follow_symlinks=False):
            yield path
        else:
            _add_file(path, walk)


def _follow(links: Iterable[Path], root: Path, walk: _Walk, waiting: deque[Path]) -> None:
    """Put links where they belong; those to folders wait until what is found without links is listed."""
    for path in links:
        if path.is_dir():
            target = path.resolve()
            if root != target and root.is_relative_to(target):
                walk.upward.append(path)
            else:
                waiting.append(path)
        elif path.exists():
            _add_file(path, walk)
        else:
            walk.dangling.append(path)


def _add_file(path: Path, walk: _Walk) -> None:
    if path.suffix.lower() not in read_suffixes():
        walk.unread.append(path.suffix)
        return
    try:
        status = path.stat()
    except OSError as error:
        walk.closed.append((path, error.strerror or str(error)))
        return
    if stat.S_ISREG(status.st_mode):
        walk.files.append((path, _identity(status)))
    else:  # reading a pipe would wait for ever
        walk.strange.append(path)


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino
