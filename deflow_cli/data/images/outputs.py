"""Output names: one file per input and sample, which never collide or overwrite an input."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deflow_cli.data.images.formats.known import IMAGE_SUFFIXES
from deflow_cli.errors import DataError
from deflow_cli.texts import encoded

_LONGEST_NAME = 255  # bytes
EXTENSIONS = ("auto", "png", "jpg", "jpeg", "tif", "tiff", "webp", "bmp")


@dataclass(frozen=True)
class PlannedOutput:
    """Where one input goes. key: its posix path below the root, which also seeds its noise."""

    source: Path
    key: str
    targets: tuple[Path, ...]


def _folded(name: str) -> str:
    """What a case-insensitive, normalising file system would compare."""
    return unicodedata.normalize("NFC", name).casefold()


def _stem(key: PurePosixPath, level: int) -> str:
    """File name without suffix; higher levels tell more of the source."""
    if level == 0:
        return key.stem
    stem = f"{key.stem}_{key.suffix[1:].lower()}"
    return stem if level == 1 else f"{stem}_{hashlib.sha256(encoded(key.as_posix())).hexdigest()[:8]}"


def _fitting(key: PurePosixPath, level: int, end: str) -> str:
    """A file name that file systems take: a stem too long for its end is cut and gets a hash of its key."""
    stem = _stem(key, level)
    if len(encoded(stem + end)) <= _LONGEST_NAME:
        return stem + end
    end = f"_{hashlib.sha256(encoded(key.as_posix())).hexdigest()[:8]}{end}"
    while len(encoded(stem + end)) > _LONGEST_NAME:
        stem = stem[:-1]
    return stem + end


def _name_all(
    keys: Sequence[PurePosixPath], suffixes: Sequence[str], samples: int, tag: str = ""
) -> list[list[str]]:
    """Relative target names per key; only those that would collide get the longer forms."""
    width = max(2, len(str(samples)))
    marks = [f"_s{i:0{width}d}" for i in range(1, samples + 1)] if samples > 1 else [""]
    marks = [f"_{tag}{mark}" for mark in marks] if tag else marks
    levels = [0] * len(keys)
    while True:
        names = [
            [
                (key.parent / _fitting(key, level, f"{mark}{suffix}")).as_posix().removeprefix("./")
                for mark in marks
            ]
            for key, level, suffix in zip(keys, levels, suffixes, strict=True)
        ]
        users: dict[str, set[int]] = defaultdict(set)
        for index, variants in enumerate(names):
            for name in variants:
                users[_folded(name)].add(index)
        crowded = {i for group in users.values() if len(group) > 1 for i in group if levels[i] < 2}
        if not crowded:
            return names
        for index in crowded:
            levels[index] += 1


@dataclass(frozen=True)
class _Formats:
    """Chooses the format of an output: ext (``auto``: the input's), or PNG where that cannot hold it."""

    ext: str
    needs_png: Callable[[Path], bool] | None
    cannot_hold: Callable[[Path, str], bool] | None

    def suffix(self, source: Path) -> str:
        if self.ext == "auto" and self.needs_png is not None and self.needs_png(source):
            return ".png"
        if self.ext != "auto":
            return self.held(source, f".{self.ext}")
        return self.held(source, source.suffix if source.suffix.lower() in IMAGE_SUFFIXES else ".png")

    def held(self, source: Path, suffix: str) -> str:
        return ".png" if self.cannot_hold is not None and self.cannot_hold(source, suffix) else suffix


def _plan_file(source: Path, target: Path, formats: _Formats, samples: int, tag: str) -> list[PlannedOutput]:
    ext = formats.ext
    named = target.suffix.lower() in IMAGE_SUFFIXES and not target.is_dir()
    if not named:
        names = _name_all([PurePosixPath(source.name)], [formats.suffix(source)], samples, tag)[0]
        return [PlannedOutput(source, source.name, tuple(target / name for name in names))]
    if ext != "auto" and target.suffix.lower() != f".{ext}":
        raise DataError(
            f"{target}: its suffix contradicts --ext {ext}", next_step="leave out --ext or change the suffix"
        )
    names = _name_all([PurePosixPath(target.name)], [formats.held(source, target.suffix)], samples, tag)[0]
    return [PlannedOutput(source, source.name, tuple(target.parent / name for name in names))]


def _refuse_overwriting(planned: Sequence[PlannedOutput]) -> None:
    sources = {_folded(os.path.realpath(item.source)): item.source for item in planned}
    for item in planned:
        for target in item.targets:
            hit = sources.get(_folded(os.path.realpath(target)))
            if hit is None:
                continue
            if hit.name != target.name and target.exists() and not os.path.samefile(hit, target):
                continue  # names that differ by case only, on a file system that distinguishes them
            raise DataError(f"{target}: would overwrite the input {hit}", next_step="choose another OUT")


def plan_outputs(
    inputs: Sequence[Path],
    root: Path,
    target: Path,
    *,
    ext: str = "auto",
    samples: int = 1,
    needs_png: Callable[[Path], bool] | None = None,
    tag: str = "",
    cannot_hold: Callable[[Path, str], bool] | None = None,
) -> list[PlannedOutput]:
    """Plan the files written for ``inputs``, all below ``root`` (the IN folder, or IN itself if a file).

    Sub-folders are kept below ``target``; for a single-file IN, ``target`` is a file name if it has an
    image suffix and is no folder. ``samples`` > 1 adds _s01, _s02 ... Names that would collide, also where
    case does not count, get the source's suffix (a_png, a_jpg), then a hash of their key, and so do names
    that would be longer than 255 bytes. ext ``auto``
    keeps the input's suffix unless ``needs_png`` says that its format cannot hold the result. tag: added to
    every name as ``_tag``. ``cannot_hold`` is asked about every input and the suffix chosen for it, and gets
    it a .png instead.

    Raises DataError if an output would overwrite an input, or ``target`` is a file and IN a folder.
    """
    root, target = Path(root), Path(target)
    ext = ext.lower().removeprefix(".")
    if ext not in EXTENSIONS:
        raise DataError(f"--ext {ext} is not known", next_step=f"use one of {', '.join(EXTENSIONS)}")
    assert samples >= 1
    formats = _Formats(ext, needs_png, cannot_hold)
    if root.is_file():
        planned = _plan_file(root, target, formats, samples, tag)
    else:
        if target.is_file():
            raise DataError(
                f"{target}: is a file, but the input is a folder", next_step="pass a folder as OUT"
            )
        keys = [PurePosixPath(Path(source).relative_to(root).as_posix()) for source in inputs]
        names = _name_all(keys, [formats.suffix(Path(source)) for source in inputs], samples, tag)
        planned = [
            PlannedOutput(Path(source), key.as_posix(), tuple(target / name for name in variants))
            for source, key, variants in zip(inputs, keys, names, strict=True)
        ]
    _refuse_overwriting(planned)
    return planned
