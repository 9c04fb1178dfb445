"""Pairs in webdataset shards: tar files of KEY.gt.png, KEY.lq.png and KEY.json, the same bytes every time."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import BinaryIO

from deflow_cli.data.contents import FileSpan
from deflow_cli.data.pairs.records import (
    GOES_ON,
    MAKE_AGAIN,
    STAGING,
    EncodedPair,
    Pairs,
    PairSlot,
    is_whole_png,
)
from deflow_cli.errors import DataError, unwritable

SHARD_PAIRS = 512
SHARD_BYTES = 1 << 30  # of pixels, of which PNG files take a half or so
_GT, _LQ, _ROW = "gt.png", "lq.png", "json"


def plan_shards(slots: Sequence[PairSlot]) -> list[list[PairSlot]]:
    """Slots by shard; no image is split: a shard ends with the image that brings it to its limit."""
    shards: list[list[PairSlot]] = []
    pixels = 0
    previous = None
    for slot in slots:
        full = bool(shards) and (len(shards[-1]) >= SHARD_PAIRS or 3 * pixels >= SHARD_BYTES)
        if not shards or (full and slot.image != previous):
            shards.append([])
            pixels = 0
        shards[-1].append(slot)
        pixels += slot.gt_size[0] * slot.gt_size[1] + slot.lq_size[0] * slot.lq_size[1]
        previous = slot.image
    return shards


def shard_name(index: int) -> str:
    return f"{index:06d}.tar"


class WebdatasetWriter:
    """Writes 000000.tar, 000001.tar ...; a shard appears when it is complete, and is then left alone."""

    def __init__(self, target: Path, slots: Sequence[PairSlot]) -> None:
        self._target = target
        self._staging = target / STAGING
        self._staging.mkdir(parents=True, exist_ok=True)
        self._shards = plan_shards(slots)
        self._shard_of = {slot.key: index for index, shard in enumerate(self._shards) for slot in shard}
        self._open: tarfile.TarFile | None = None
        self._index = -1
        self._left: set[str] = set()

    def missing(self, keys: Collection[str] | None = None) -> set[str]:
        numbers = range(len(self._shards)) if keys is None else {self._shard_of[key] for key in keys}
        return {
            slot.key
            for index in numbers
            if not self._is_whole(self._target / shard_name(index), self._shards[index])
            for slot in self._shards[index]
        }

    def _is_whole(self, path: Path, shard: Sequence[PairSlot]) -> bool:
        """Whether a shard is there, with exactly its samples, each with two whole PNG files and its row."""
        try:
            samples = _members(path)
            if path.stat().st_size % tarfile.RECORDSIZE:  # the last record is always whole
                return False
            with path.open("rb") as file:
                for slot in shard:
                    members = samples.pop(slot.key)
                    for suffix, size in ((_GT, slot.gt_size), (_LQ, slot.lq_size)):
                        if not is_whole_png(_read_member(file, members[suffix]), size):
                            return False
                    if _read_member(file, members[_ROW]) != _row_of(slot):
                        return False
        except (DataError, OSError, KeyError):
            return False
        return not samples

    def write(self, pairs: Sequence[EncodedPair]) -> None:
        try:
            self._write(pairs)
        except OSError as error:
            raise unwritable(self._target / shard_name(self._index), error, next_step=GOES_ON) from error

    def _write(self, pairs: Sequence[EncodedPair]) -> None:
        for pair in pairs:
            index = self._shard_of[pair.slot.key]
            if index != self._index:
                self._begin(index)
            for suffix, content in ((_GT, pair.gt), (_LQ, pair.lq), (_ROW, _row_of(pair.slot))):
                self._add(f"{pair.slot.key}.{suffix}", content)
            self._left.discard(pair.slot.key)
            if not self._left:
                self._end()

    def finish(self) -> None:
        assert self._open is None, "a shard lacks pairs"

    def close(self) -> None:
        if self._open is not None:
            with contextlib.suppress(OSError):  # a full disk takes no end of an archive either
                self._open.close()
            self._open = None
            self._temporary().unlink(missing_ok=True)

    def _temporary(self) -> Path:
        return self._staging / f"{shard_name(self._index)}.{os.getpid()}"

    def _begin(self, index: int) -> None:
        assert self._open is None, "a shard lacks pairs"
        self._index = index
        self._left = {slot.key for slot in self._shards[index]}
        self._open = tarfile.open(self._temporary(), "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def _add(self, name: str, content: bytes) -> None:
        assert self._open is not None
        member = tarfile.TarInfo(name)  # its time, owner and mode are constants
        member.size = len(content)
        self._open.addfile(member, io.BytesIO(content))

    def _end(self) -> None:
        assert self._open is not None
        self._open.close()
        self._open = None
        os.replace(self._temporary(), self._target / shard_name(self._index))


class WebdatasetPairs(Pairs):
    """Pairs of a folder's *.tar files; what is not asked for is never read but for its header."""

    def __init__(self, path: Path) -> None:
        self._places: list[tuple[str, dict[str, tuple[int, int]]]] = []
        keys = []
        for shard in sorted(path.glob("*.tar")):
            for key, members in _members(shard).items():
                lacking = [suffix for suffix in (_GT, _LQ) if suffix not in members]
                if lacking:
                    raise DataError(
                        f"{shard}: {key} has no {key}.{lacking[0]}",
                        next_step="make the shard anew: each pair needs KEY.gt.png and KEY.lq.png",
                    )
                keys.append(key)
                self._places.append((shard.name, members))
        super().__init__(path, keys)

    def spans(self, index: int) -> tuple[FileSpan, FileSpan]:
        shard, members = self._places[index]
        gt, lq = (FileSpan(self.path / shard, *members[suffix]) for suffix in (_GT, _LQ))
        return gt, lq


def _row_of(slot: PairSlot) -> bytes:
    return json.dumps({"key": slot.key, **slot.row}).encode()


def _read_member(file: BinaryIO, place: tuple[int, int]) -> bytes:
    file.seek(place[0])
    return file.read(place[1])


def _members(shard: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Key -> suffix -> place in the tar file (offset, size).

    The module tarfile takes a damaged header, or the end of the file, for the end of the archive. Here the
    archive must end with a block of zeros, as every writer leaves it, so that no pair is lost silently.
    """
    found: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    try:
        with tarfile.open(shard, "r:") as tar, shard.open("rb") as file:
            for member in tar:
                key, dot, suffix = member.name.partition(".")
                if member.isfile() and not member.issparse() and dot:
                    found[key][suffix] = (member.offset_data, member.size)
            file.seek(tar.offset)
            end = file.read(tarfile.BLOCKSIZE)
    except tarfile.ReadError as error:
        if "unexpected end" in str(error):
            raise _cut_short(shard) from error
        raise DataError(f"{shard}: not a readable tar file ({error})", next_step="copy it again") from error
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{shard}: not a readable tar file ({error})", next_step="copy it again") from error
    if not end:
        raise _cut_short(shard)
    if any(end):
        raise DataError(
            f"{shard}: damaged: the entry after {len(found)} samples cannot be read",
            next_step=f"make the data set anew: {MAKE_AGAIN}",
        )
    return found


def _cut_short(shard: Path) -> DataError:
    return DataError(
        f"{shard}: incomplete: the tar file was cut short",
        next_step=f"make the data set anew: {MAKE_AGAIN}",
    )
