"""Folders of images: what is in them, what is wrong with them, whether two make unpaired domains."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deflow_cli.data.images.files import read_header, read_image, read_rgb8
from deflow_cli.data.images.listing import list_images, name_some
from deflow_cli.errors import DataError, DeflowError
from deflow_cli.texts import encoded

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_ENDS = 1 << 16
_PAIRS_LOOKED_AT = 8
_PAIR_CORRELATION = 0.8
PAIR_LAYOUTS = (("clean", "noisy"), ("gt", "lq"))  # names of the two folders in a folder of pairs


@dataclass(frozen=True)
class FolderScan:
    """Usable images of a folder, sorted by relative path, and the others.

    sizes: upright (width, height) per path. broken: (path, reason).
    """

    folder: Path
    paths: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]
    too_small: tuple[Path, ...] = ()
    broken: tuple[tuple[Path, str], ...] = ()

    def key(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def reason_of(error: DeflowError, path: Path) -> str:
    """The error's text without the file name in front."""
    return str(error).removeprefix(f"{path}: ")


def inspect_size(path: Path) -> tuple[int, int]:
    """Upright (width, height) from the header, with a cheap look for a missing end of file.

    Raises DataError naming the file if it cannot be an image we read.
    """
    header = read_header(path)
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(-min(4096, file.tell()), os.SEEK_CUR)
        tail = file.read()
    ended = {"PNG": tail.endswith(_PNG_END), "JPEG": b"\xff\xd9" in tail}.get(header.format, True)
    if not ended:
        read_image(path)  # trailing bytes are harmless, truncation is not: decoding decides
    return header.width, header.height


def scan_folder(folder: Path, min_side: int) -> FolderScan:
    """Look at the header of every image below ``folder``; those under ``min_side`` px are set aside.

    Raises DataError if the folder is missing, holds no images, or none that can be used: with counts,
    the largest size seen, and what to do.
    """
    folder = Path(folder)
    files = list_images(folder)
    if not files:
        raise DataError(
            f"{folder}: holds no images (PNG, JPEG, TIFF, WebP or BMP)",
            next_step="check the path of the folder",
        )
    paths: list[Path] = []
    sizes: list[tuple[int, int]] = []
    too_small: list[Path] = []
    broken: list[tuple[Path, str]] = []
    largest = (0, 0)
    for path in files:
        try:
            size = inspect_size(path)
        except DataError as error:
            broken.append((path, reason_of(error, path)))
            continue
        largest = max(largest, size, key=min)
        if min(size) < min_side:
            too_small.append(path)
        else:
            paths.append(path)
            sizes.append(size)
    if not paths:
        parts = []
        if too_small:
            parts.append(
                f"{len(too_small)} smaller than {min_side} px (the largest is {largest[0]}x{largest[1]})"
            )
        if broken:
            first, reason = broken[0]
            parts.append(f"{len(broken)} broken (first: {first.name}: {reason})")
        fitting = min(largest) // 8 * 8
        raise DataError(
            f"{folder}: none of its {len(files)} images can be used: {', '.join(parts)}",
            next_step=f"pass --set fit.patch_size={fitting} or add larger images"
            if fitting >= 8
            else "add images that can be read",
        )
    return FolderScan(folder, tuple(paths), tuple(sizes), tuple(too_small), tuple(broken))


def _signature(path: Path) -> tuple[int, bytes]:
    """File size and a hash of both ends: enough to tell most files apart without reading them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        ends = file.read(_ENDS)
        file.seek(max(0, size - _ENDS))
        return size, hashlib.sha256(ends + file.read()).digest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shared_files(ours: FolderScan, theirs: FolderScan) -> list[Path]:
    """Files of ``theirs`` whose bytes are also in ``ours``; only likely ones are read whole."""
    sizes = {path.stat().st_size for path in ours.paths}
    likely = [path for path in theirs.paths if path.stat().st_size in sizes]
    if not likely:
        return []
    wanted = {path.stat().st_size for path in likely}
    candidates: dict[tuple[int, bytes], list[Path]] = defaultdict(list)
    for path in ours.paths:
        if path.stat().st_size in wanted:
            candidates[_signature(path)].append(path)
    return [
        path
        for path in likely
        if file_sha256(path) in {file_sha256(other) for other in candidates.get(_signature(path), ())}
    ]


def find_copies(scan: FolderScan) -> dict[Path, Path]:
    """Files of a folder with the bytes of an earlier one, and which; only likely ones are read whole."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in scan.paths:
        by_size[path.stat().st_size].append(path)
    copies = {}
    for group in (group for group in by_size.values() if len(group) > 1):
        alike: dict[tuple[int, bytes], list[Path]] = defaultdict(list)
        for path in group:
            alike[_signature(path)].append(path)
        for likely in (likely for likely in alike.values() if len(likely) > 1):
            first_of: dict[str, Path] = {}
            for path in likely:
                first = first_of.setdefault(file_sha256(path), path)
                if first != path:
                    copies[path] = first
    return copies


def name_copies(copies: Mapping[Path, Path]) -> str:
    """How many files are copies, and of which.

    >>> name_copies({Path("d/b.png"): Path("d/a.png")})
    'copies of other files (1): b.png (of a.png)'
    """
    named = name_some(f"{path.name} (of {first.name})" for path, first in copies.items())
    return f"copies of other files ({len(copies)}): {named}"


def _thumbnail(path: Path) -> np.ndarray:
    small = cv2.resize(read_rgb8(path), (24, 24), interpolation=cv2.INTER_AREA).astype(np.float64).mean(-1)
    return (small - small.mean()).ravel()


def _are_pairs(clean: FolderScan, noisy: FolderScan) -> bool:
    """Same relative stems and sizes for all, and the same content where looked at."""

    def stems(scan: FolderScan) -> dict[str, tuple[Path, tuple[int, int]]]:
        return {
            Path(scan.key(p)).with_suffix("").as_posix(): (p, s)
            for p, s in zip(scan.paths, scan.sizes, strict=True)
        }

    ours, theirs = stems(clean), stems(noisy)
    if ours.keys() != theirs.keys() or any(ours[stem][1] != theirs[stem][1] for stem in ours):
        return False
    correlations = []
    names = sorted(ours)
    for stem in names[:: -(-len(names) // _PAIRS_LOOKED_AT)]:
        try:
            a, b = _thumbnail(ours[stem][0]), _thumbnail(theirs[stem][0])
        except DataError:
            continue
        correlations.append(float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9)))
    return bool(correlations) and float(np.median(correlations)) > _PAIR_CORRELATION


def _pairs_hint(clean: Path, noisy: Path) -> str:
    """How to use two folders of pairs as what they are."""
    if clean.parent == noisy.parent and (clean.name, noisy.name) in PAIR_LAYOUTS:
        return f"add --pairs {clean.parent} to train on them as pairs too"
    return "put them into one folder as DIR/clean and DIR/noisy; pass these two, and --pairs DIR"


def check_domains(clean: FolderScan, noisy: FolderScan, *, allow_pairs: bool = False) -> tuple[str, ...]:
    """Make sure that two scans can serve as unpaired domains; returns notes worth printing.

    Raises DataError when both are one folder, when one holds only files of the other (compared by
    content), or when they hold pairs only: the same relative stems, sizes and content, unless
    ``allow_pairs``.
    """
    if os.path.samefile(clean.folder, noisy.folder):
        raise DataError(
            f"{clean.folder} and {noisy.folder} are the same folder; a clean and a noisy one are needed",
            next_step="pass the folder of clean images first, that of noisy images second",
        )
    shared = _shared_files(clean, noisy)
    if shared and (len(shared) == len(noisy.paths) or len(_shared_files(noisy, clean)) == len(clean.paths)):
        raise DataError(
            f"{clean.folder} and {noisy.folder} hold the same files: {name_some(p.name for p in shared)}",
            next_step="pass two different folders, neither inside the other",
        )
    if not allow_pairs and _are_pairs(clean, noisy):
        raise DataError(
            f"{clean.folder} and {noisy.folder} hold pairs only: all {len(clean.paths)} names, sizes and"
            " contents match, and the unpaired fit needs different images in the two folders",
            next_step=_pairs_hint(clean.folder, noisy.folder),
        )
    if shared:
        return (f"{len(shared)} files are in both folders: {name_some(path.name for path in shared)}",)
    return ()


def fingerprint(scan: FolderScan) -> str:
    """16 hex digits that name a folder's content: sha256 over sorted relative names and sizes in bytes."""
    lines = sorted(f"{scan.key(path)}\0{path.stat().st_size}" for path in scan.paths)
    return hashlib.sha256(encoded("\n".join(lines))).hexdigest()[:16]
