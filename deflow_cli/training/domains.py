"""Domains: two folders of unpaired images, checked, and split into training and held-out ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from deflow_cli.data.contents import Contents, folder_contents
from deflow_cli.data.images.folders import (
    FolderScan,
    check_domains,
    find_copies,
    fingerprint,
    name_copies,
    scan_folder,
)
from deflow_cli.data.images.image_cache import ImageCache
from deflow_cli.data.unpaired import split_held_out
from deflow_cli.runtime.progress import Reporter


@dataclass(frozen=True)
class Domains:
    """The two folders, split into training and held-out images. contents: of their files, by role."""

    clean: ImageCache
    noisy: ImageCache
    held_clean: ImageCache
    held_noisy: ImageCache
    facts: dict[str, Any]
    contents: dict[str, Contents] = field(default_factory=dict)


class HeldOutSettings(Protocol):
    """The part of a configuration that says how folders are split and kept in memory."""

    @property
    def held_out(self) -> float:
        """Share of each folder's images that is kept for validation."""

    @property
    def seed(self) -> int: ...

    @property
    def cache_mib(self) -> int:
        """Memory for decoded images, MiB."""


def open_folders(
    folders: tuple[Path, Path],
    least_sides: tuple[int, int],
    settings: HeldOutSettings,
    reporter: Reporter,
    *,
    has_pairs: bool = False,
) -> Domains:
    """Scan, check and split the clean and the noisy folder. least_sides: px that an image of each has.

    has_pairs: whether paired images join the training, so that the folders may hold pairs. Raises DataError
    early, with the reason.
    """
    scans = (scan_folder(folders[0], least_sides[0]), scan_folder(folders[1], least_sides[1]))
    for note in check_domains(*scans, allow_pairs=has_pairs):
        reporter.note(note)
    for name, scan, size in zip(("clean", "noisy"), scans, least_sides, strict=True):
        _tell(name, scan, size, reporter)
    share, seed, cache = settings.held_out, settings.seed, settings.cache_mib * 2**20
    pools: list[ImageCache] = []
    held_out = []
    for scan in scans:
        copies = find_copies(scan)
        if copies:
            sides = "they stay on one side of the held-out split"
            reporter.warn(f"{scan.folder}: {name_copies(copies)}; {sides}")
        train, held = split_held_out(scan.paths, share, seed, copies)
        bound = int(cache * len(scan.paths) / max(sum(len(s.paths) for s in scans), 1))
        # a set too small to hold images out is validated on its own images
        pools += [ImageCache(train, bound), ImageCache(held or train, bound // 4)]
        held_out.append(len(held))
    facts = {
        "clean_images": len(scans[0].paths),
        "noisy_images": len(scans[1].paths),
        "held_out_images": held_out,
        "clean_fingerprint": fingerprint(scans[0]),
        "noisy_fingerprint": fingerprint(scans[1]),
    }
    contents: dict[str, Contents] = {
        name: folder_contents(scan.folder, scan.paths)
        for name, scan in zip(("clean", "noisy"), scans, strict=True)
    }
    return Domains(pools[0], pools[2], pools[1], pools[3], facts, contents)


def _tell(name: str, scan: FolderScan, size: int, reporter: Reporter) -> None:
    reporter.note(f"{name}: {len(scan.paths)} images in {scan.folder}")
    if scan.too_small:
        reporter.warn(f"{name}: {len(scan.too_small)} images smaller than {size} px skipped")
    for path, reason in scan.broken[:5]:
        reporter.warn(f"{name}: {path} skipped: {reason}")
    if len(scan.broken) > 5:
        reporter.warn(f"{name}: {len(scan.broken) - 5} more broken images skipped")
