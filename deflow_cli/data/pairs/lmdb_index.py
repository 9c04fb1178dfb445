"""LMDB index: where each value of an LMDB file lies, found by reading its pages instead of mapping them.

Touching a page of a memory map that lies beyond the end of its file kills the process (SIGBUS) without a
message. Here every page number is compared with the file's size before it is used, so a file that was cut
short, at any time, ends in an error that names it. Reading also needs neither the package lmdb nor its lock.

The layout is that of LMDB 0.9 on 64-bit little-endian machines (``lmdb.h`` and ``mdb.c`` of OpenLDAP): two
meta pages, then branch pages (key, page number), leaf pages (key, value) and runs of overflow pages that hold
values larger than about half a page.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from deflow_cli.data.pairs.records import MAKE_AGAIN
from deflow_cli.errors import DataError

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER = 16  # bytes of a page's header; in a meta page the meta data follows
_META = struct.Struct("<II8xQ")  # magic, version, (address), size of the map
_META_BYTES = 136
_PAGE_SIZE, _FLAGS, _ENTRIES, _ROOT, _LAST_PAGE, _TRANSACTION = 24, 76, 104, 112, 120, 128
_BRANCH, _LEAF, _OVERFLOW = 0x01, 0x02, 0x04  # flags of a page
_BIG, _SUB_DATABASE, _DUPLICATES = 0x01, 0x02, 0x04  # flags of a node
_NO_PAGE = 0xFFFFFFFFFFFFFFFF
_MOST_LEVELS = 32  # LMDB's own limit


class ValueSpan(NamedTuple):
    """Where a value lies in the file, in bytes."""

    offset: int
    size: int


class _Meta(NamedTuple):
    page_size: int
    root: int
    entries: int
    last_page: int
    transaction: int


def read_index(path: Path) -> dict[bytes, ValueSpan]:
    """The keys of the main database of a ``data.mdb``, in LMDB's order, and where their values lie.

    Raises DataError naming the folder of the file where it is no LMDB, is shorter than its meta pages say,
    or has a page that points outside the file.
    """
    folder = path.parent
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            meta = _newest_meta(file, size, folder)
            expected = (meta.last_page + 1) * meta.page_size
            if size < expected:
                raise DataError(
                    f"{folder}: incomplete: {path.name} has {size} of {expected} bytes",
                    next_step=f"make the data set anew: {MAKE_AGAIN}",
                )
            return _Walk(file, folder, meta).places()
    except OSError as error:
        raise DataError(
            f"{folder}: not a readable LMDB ({path.name}: {error.strerror or error})",
            next_step="copy it again",
        ) from error


def _newest_meta(file: BinaryIO, size: int, folder: Path) -> _Meta:
    """The meta page of the last transaction; there are two, written in turn."""
    first = _meta_at(file, 0)
    # Where the first is damaged, the size of pages is unknown; 4 KiB is that of nearly all machines.
    second = _meta_at(file, 4096 if first is None else first.page_size)
    found = [meta for meta in (first, second) if meta is not None]
    if not found:
        what = "empty" if not size else "its meta pages are damaged, or another format"
        raise DataError(
            f"{folder}: not a readable LMDB ({what})", next_step=f"make the data set anew: {MAKE_AGAIN}"
        )
    return max(found, key=lambda meta: meta.transaction)


def _meta_at(file: BinaryIO, offset: int) -> _Meta | None:
    file.seek(offset + _HEADER)
    data = file.read(_META_BYTES)
    if len(data) < _META_BYTES:
        return None
    magic, version, _ = _META.unpack_from(data)
    if (magic, version) != (_MAGIC, _VERSION):
        return None
    (page_size,) = struct.unpack_from("<I", data, _PAGE_SIZE)
    (flags,) = struct.unpack_from("<H", data, _FLAGS)
    (entries,) = struct.unpack_from("<Q", data, _ENTRIES)
    root, last_page, transaction = struct.unpack_from("<QQQ", data, _ROOT)
    if page_size < 256 or page_size > 1 << 16 or page_size & (page_size - 1) or flags & _DUPLICATES:
        return None
    return _Meta(page_size, root, entries, last_page, transaction)


class _Walk:
    """One walk through the pages of a file, from the root to the leaves."""

    def __init__(self, file: BinaryIO, folder: Path, meta: _Meta) -> None:
        self._file, self._folder, self._meta = file, folder, meta
        self._places: dict[bytes, ValueSpan] = {}
        self._seen = 0

    def places(self) -> dict[bytes, ValueSpan]:
        if self._meta.root != _NO_PAGE:
            self._visit(self._meta.root, 1)
        if len(self._places) != self._meta.entries:
            raise self._damaged(f"{len(self._places)} of {self._meta.entries} keys found")
        return self._places

    def _damaged(self, what: str) -> DataError:
        return DataError(
            f"{self._folder}: damaged: {what}", next_step=f"make the data set anew: {MAKE_AGAIN}"
        )

    def _page(self, number: int) -> bytes:
        """A page of the file. Raises DataError where there is no such page."""
        self._seen += 1
        if number > self._meta.last_page or self._seen > self._meta.last_page:
            raise self._damaged(f"a reference to page {number} of {self._meta.last_page + 1}")
        self._file.seek(number * self._meta.page_size)
        page = self._file.read(self._meta.page_size)
        if len(page) != self._meta.page_size or int.from_bytes(page[:8], "little") != number:
            raise self._damaged(f"page {number} is not there")
        return page

    def _visit(self, number: int, level: int) -> None:
        page = self._page(number)
        flags, lower = struct.unpack_from("<HH", page, 10)
        if flags & (_BRANCH | _LEAF) not in (_BRANCH, _LEAF) or level > _MOST_LEVELS:
            raise self._damaged(f"page {number} is of no known kind")
        count = (lower - _HEADER) // 2
        if lower < _HEADER or lower > len(page):
            raise self._damaged(f"page {number} has no such entries")
        for start in struct.unpack_from(f"<{count}H", page, _HEADER):
            if start + 8 > len(page):
                raise self._damaged(f"page {number} has an entry beyond its end")
            low, high, node_flags, key_size = struct.unpack_from("<HHHH", page, start)
            if start + 8 + key_size > len(page):
                raise self._damaged(f"page {number} has a key beyond its end")
            if flags & _BRANCH:
                self._visit(low | high << 16 | node_flags << 32, level + 1)
            else:
                self._add(page, number, start + 8, key_size, node_flags, low | high << 16)

    def _add(self, page: bytes, number: int, start: int, key_size: int, flags: int, size: int) -> None:
        """Note where the value of one entry of a leaf page lies."""
        key, data = page[start : start + key_size], start + key_size
        if flags & (_SUB_DATABASE | _DUPLICATES):
            raise self._damaged(f"{key!r} is a database in itself, not a file")
        if data + (8 if flags & _BIG else size) > len(page):
            raise self._damaged(f"{key!r} has a value beyond the end of its page")
        if not flags & _BIG:
            self._places[key] = ValueSpan(number * self._meta.page_size + data, size)
            return
        first = int.from_bytes(page[data : data + 8], "little")
        pages = -(-(_HEADER + size) // self._meta.page_size)
        if first + pages - 1 > self._meta.last_page:
            raise self._damaged(f"{key!r} has a value beyond the end of the file")
        self._places[key] = ValueSpan(first * self._meta.page_size + _HEADER, size)
