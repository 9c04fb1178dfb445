"""Pairs in LMDB: gt.lmdb and lq.lmdb with identical keys and PNG files as values, as BasicSR reads them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from deflow_cli.data.contents import FileSpan
from deflow_cli.data.pairs.folders import FolderWriter
from deflow_cli.data.pairs.lmdb_index import ValueSpan, read_index
from deflow_cli.data.pairs.records import GOES_ON, SIDES, STAGING, EncodedPair, Pairs, PairSlot, is_whole_png
from deflow_cli.errors import DataError

META = "meta_info.txt"
_DATA, _LOCK = "data.mdb", "lock.mdb"
_TRANSACTION = 64  # pairs
_MARGIN = 16 << 20  # bytes of the map beyond what pairs can take


def _lmdb() -> Any:
    try:
        import lmdb
    except ModuleNotFoundError as error:
        raise DataError(
            "the format lmdb needs the package lmdb, which is not installed",
            next_step="pip install 'deflow-cli[lmdb]', or use another --format",
        ) from error
    return lmdb


def check_lmdb() -> None:
    """Raise DataError with the command that installs it where lmdb is missing."""
    _lmdb()


def folder_of(target: Path, side: str) -> Path:
    return target / f"{side}.lmdb"


class LmdbWriter:
    """Collects PNG files out of sight, and packs them when all are there.

    Packing in one go makes the same pairs the same file: the unused ends of LMDB's pages keep what was there
    before. Meanwhile the pairs lie there twice.
    """

    def __init__(self, target: Path, slots: Sequence[PairSlot]) -> None:
        self._lmdb = _lmdb()
        self._target = target
        self._slots = slots
        self._staging = target / STAGING
        self._packed = False
        self._files = FolderWriter(self._staging, slots)

    def missing(self, keys: Collection[str] | None = None) -> set[str]:
        if keys is not None:  # a part of a data set that nobody has packed
            return self._files.missing(keys)
        self._packed = all(self._is_whole(side) for side in SIDES)
        return set() if self._packed else self._files.missing()

    def write(self, pairs: Sequence[EncodedPair]) -> None:
        self._files.write(pairs)

    def finish(self) -> None:
        if self._packed:
            return
        try:
            self._finish()
        except (OSError, self._lmdb.Error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if "allocate memory" in reason:
                raise MemoryError(reason) from error  # which is told as other lack of memory is
            raise DataError(
                f"{self._target}: cannot be packed ({reason})",
                next_step=f"make room on that disk; {GOES_ON}",
            ) from error

    def _finish(self) -> None:
        for side in SIDES:
            packed = folder_of(self._staging, side)
            shutil.rmtree(packed, ignore_errors=True)
            packed.mkdir()
            self._pack(packed, side)
            shutil.rmtree(folder_of(self._target, side), ignore_errors=True)
            os.replace(packed, folder_of(self._target, side))
        self._packed = True

    def close(self) -> None:
        return

    def _is_whole(self, side: str) -> bool:
        """Whether the LMDB of a side is there, with exactly the pairs' keys and a whole PNG file for each."""
        folder = folder_of(self._target, side)
        try:
            places = read_index(folder / _DATA)
            with (folder / _DATA).open("rb") as file:
                for slot in self._slots:
                    place = places.pop(slot.key.encode())
                    file.seek(place.offset)
                    if not is_whole_png(file.read(place.size), slot.sizes[side]):
                        return False
        except (DataError, OSError, KeyError):
            return False
        return not places and (folder / META).is_file()

    def _check_room(self, folder: Path, side: str) -> None:
        """A map that grows on a full disk ends the process without a word. Raises OSError instead."""
        pages = sum(-(-self._files.path(slot.key, side).stat().st_size // 4096) + 1 for slot in self._slots)
        if shutil.disk_usage(folder).free < 4096 * pages:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _pack(self, packed: Path, side: str) -> None:
        self._check_room(packed, side)
        sizes = [slot.gt_size if side == "gt" else slot.lq_size for slot in self._slots]
        # A writable map starts as zeros; without one, memory of this process would fill unused ends.
        environment = self._lmdb.open(
            str(packed), map_size=_map_size(sizes), lock=False, writemap=True, sync=False, metasync=False
        )
        lines = []
        for first in range(0, len(self._slots), _TRANSACTION):
            with environment.begin(write=True) as transaction:
                for slot, (height, width) in zip(
                    self._slots[first:][:_TRANSACTION], sizes[first:], strict=False
                ):
                    transaction.put(slot.key.encode(), self._files.path(slot.key, side).read_bytes())
                    lines.append(f"{slot.key}.png ({height},{width},3) 1\n")
        environment.sync(True)
        used = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        environment.close()
        os.truncate(packed / _DATA, used)
        (packed / META).write_text("".join(lines), "ascii")
        (packed / _LOCK).touch()  # readers look for it; LMDB fills it when it locks


def _map_size(sizes: Sequence[tuple[int, int]]) -> int:
    """An upper bound of the data: PNG files little larger than their pixels, on whole pages of 4 KiB."""
    total = sum(3 * height * width * 102 // 100 + 4 * 4096 for height, width in sizes)
    return (total + _MARGIN + 4095) // 4096 * 4096


class LmdbPairs(Pairs):
    """Pairs of gt.lmdb and lq.lmdb, in the order of their keys.

    Values are read from the file at the places that its pages name; nothing is mapped into memory, so that a
    file cut short is an error and not the end of the process, whenever it happens.
    """

    def __init__(self, path: Path) -> None:
        self._places = {side: _places(folder_of(path, side)) for side in SIDES}
        keys = [list(places) for places in self._places.values()]
        lonely = sorted(set(keys[0]) ^ set(keys[1]))
        if lonely:
            there, other = SIDES if lonely[0] in set(keys[0]) else SIDES[::-1]
            raise DataError(
                f"{folder_of(path, there)}: {lonely[0]} has no partner in {other}.lmdb",
                next_step="make the data set anew",
            )
        super().__init__(path, keys[0])

    def spans(self, index: int) -> tuple[FileSpan, FileSpan]:
        key = self.keys[index]
        gt, lq = (FileSpan(folder_of(self.path, side) / _DATA, *self._places[side][key]) for side in SIDES)
        return gt, lq


def _places(folder: Path) -> dict[str, ValueSpan]:
    return {
        key.decode("utf-8", "surrogateescape"): place for key, place in read_index(folder / _DATA).items()
    }
