"""Pair formats: folders, lmdb and webdataset behind one writer and one reader, and the files beside them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from deflow_cli.data.images.listing import name_some
from deflow_cli.data.pairs.checksums import SUMS
from deflow_cli.data.pairs.folders import FolderPairs, FolderWriter
from deflow_cli.data.pairs.lmdb import LmdbPairs, LmdbWriter, check_lmdb, folder_of
from deflow_cli.data.pairs.records import SIDES, STAGING, Pairs, PairSlot, PairWriter
from deflow_cli.data.pairs.webdataset import WebdatasetPairs, WebdatasetWriter, plan_shards, shard_name
from deflow_cli.errors import DataError

PairFormat = Literal["folders", "lmdb", "webdataset"]
FORMATS: tuple[PairFormat, ...] = ("folders", "lmdb", "webdataset")

MANIFEST = "deflow.json"
UNFINISHED = "deflow.partial.json"
LOCK = "lock"  # of the folder of unfinished files
METADATA = "metadata.jsonl"
META_INFO = "meta_info.txt"
META_INFO_PAIRED = "meta_info_paired.txt"
_OWN_PAIR = re.compile(r"\d{7,}(_v\d{2,})?(_s\d{3,})?\.png")
_OWN_SHARD = re.compile(r"\d{6,}\.tar")
_OWN_LMDB = frozenset({"data.mdb", "lock.mdb", META_INFO})


def pair_name(
    image: int, variant: int | None = None, crop: int | None = None, digits: tuple[int, int] = (2, 3)
) -> str:
    """A stem that no trainer stumbles over: digits, then ``_v01`` for a variant and ``_s001`` for a crop.

    All count from 0 here and from 1 in the name. digits: at least so many for variants and crops, so that
    names sort as numbers do. Trainers want no blanks, no dots and nothing like x4.
    """
    marks = "" if variant is None else f"_v{variant + 1:0{max(2, digits[0])}d}"
    return f"{image + 1:07d}{marks}" + ("" if crop is None else f"_s{crop + 1:0{max(3, digits[1])}d}")


def check_format(name: str) -> None:
    """Raise DataError where a format's package is not installed."""
    if name == "lmdb":
        check_lmdb()


def make_writer(kind: PairFormat, target: Path, slots: Sequence[PairSlot]) -> PairWriter:
    """The writer of a format for these pairs, in this order, below ``target``."""
    writers: dict[str, Callable[[Path, Sequence[PairSlot]], PairWriter]] = {
        "folders": FolderWriter,
        "lmdb": LmdbWriter,
        "webdataset": WebdatasetWriter,
    }
    return writers[kind](target, slots)


def side_files(kind: PairFormat, slots: Sequence[PairSlot]) -> dict[str, str]:
    """Name -> text of the files beside the pairs.

    ``metadata.jsonl``: a row per pair; for folders it names the files, so that Hugging Face's imagefolder
    loads the columns gt and lq. Folders also have BasicSR's ``meta_info.txt`` (name and size of gt) and
    Real-ESRGAN's paired one (``meta_info_paired.txt``).
    """
    rows = []
    for slot in slots:
        files = {f"{side}_file_name": f"{side}/{slot.key}.png" for side in ("lq", "gt")}
        rows.append({**(files if kind == "folders" else {}), "key": slot.key, **slot.row})
    texts = {METADATA: "".join(json.dumps(row) + "\n" for row in rows)}
    if kind == "folders":
        texts[META_INFO] = "".join(f"{s.key}.png ({s.gt_size[0]},{s.gt_size[1]},3)\n" for s in slots)
        texts[META_INFO_PAIRED] = "".join(f"gt/{s.key}.png, lq/{s.key}.png\n" for s in slots)
    return texts


def files_of(kind: PairFormat, slots: Sequence[PairSlot]) -> list[str]:
    """The files of a data set that its checksums list, relative to its folder.

    An LMDB's lock is none of them, since readers change it, nor is the manifest, which is compared itself.
    """
    if kind == "folders":
        stored = [f"{side}/{slot.key}.png" for slot in slots for side in SIDES]
    elif kind == "lmdb":
        stored = [
            f"{folder_of(Path(), side).name}/{name}" for side in SIDES for name in ("data.mdb", META_INFO)
        ]
    else:
        stored = [shard_name(index) for index in range(len(plan_shards(slots)))]
    return [*stored, *side_files(kind, slots)]


def unit_numbers(kind: PairFormat, slots: Sequence[PairSlot]) -> list[int]:
    """Of each pair the unit that it belongs to: what can be made apart, an image's pairs or a tar file's."""
    if kind == "webdataset":
        return [number for number, shard in enumerate(plan_shards(slots)) for _ in shard]
    return [slot.image for slot in slots]


def files_of_unit(kind: PairFormat, unit: int, slots: Sequence[PairSlot]) -> list[str]:
    """The files that hold a unit, whose pairs are ``slots``; those of an LMDB wait to be packed."""
    if kind == "webdataset":
        return [shard_name(unit)]
    below = f"{STAGING}/" if kind == "lmdb" else ""
    return [f"{below}{side}/{slot.key}.png" for slot in slots for side in SIDES]


def clear_pairs(target: Path) -> None:
    """Remove a data set that we wrote, its manifests last.

    Files beside gt/ and lq/ that are not ours are left alone; raises DataError, and removes nothing, where
    such files are inside them.
    """
    doomed: list[Path] = []
    foreign: list[Path] = []
    for side in SIDES:
        for folder, owned in (
            (target / side, _OWN_PAIR.fullmatch),
            (folder_of(target, side), _OWN_LMDB.__contains__),
        ):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                (doomed if owned(path.name) else foreign).append(path)
    if foreign:
        raise DataError(
            f"{target}: files there that deflow did not write: {name_some(foreign)}",
            next_step="move them away, or choose another OUT",
        )
    doomed += [path for path in sorted(target.glob("*.tar")) if _OWN_SHARD.fullmatch(path.name)]
    doomed += [target / name for name in (METADATA, META_INFO, META_INFO_PAIRED, SUMS)]
    for path in doomed:
        path.unlink(missing_ok=True)
    for side in SIDES:
        for folder in (target / side, folder_of(target, side)):
            if folder.is_dir():
                folder.rmdir()
    for path in (target / STAGING).glob("*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
    for name in (UNFINISHED, MANIFEST):
        (target / name).unlink(missing_ok=True)


def open_pairs(path: Path) -> Pairs:
    """Stored pairs as a sequence of (key, gt, lq), sorted by key: ours, or others' of the same layouts.

    path: a folder with gt/ and lq/, with gt.lmdb and lq.lmdb, or with tar files of KEY.gt.png and KEY.lq.png.
    Raises DataError if it is none of these, unfinished, empty, or lacks a partner.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder", next_step="pass a folder made by `deflow make-pairs`")
    if (path / UNFINISHED).is_file():
        raise DataError(
            f"{path}: `deflow make-pairs` has not finished it", next_step="run the same command again"
        )
    pairs: Pairs
    if all((path / side).is_dir() for side in SIDES):
        pairs = FolderPairs(path)
    elif all(folder_of(path, side).is_dir() for side in SIDES):
        pairs = LmdbPairs(path)
    elif any(path.glob("*.tar")):
        pairs = WebdatasetPairs(path)
    else:
        raise DataError(
            f"{path}: holds neither gt/ and lq/, nor gt.lmdb and lq.lmdb, nor *.tar",
            next_step="pass a folder made by `deflow make-pairs`",
        )
    if not len(pairs):
        raise DataError(f"{path}: holds no pairs", next_step="make it anew by `deflow make-pairs`")
    return pairs
