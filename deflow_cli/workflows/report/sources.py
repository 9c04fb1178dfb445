"""Report sources: the images that a report is made of, and how they relate to the training's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deflow_cli.arrays import Pixels
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.images.folders import FolderScan, find_copies, fingerprint, scan_folder
from deflow_cli.data.photos import packaged_photos
from deflow_cli.data.unpaired import split_held_out
from deflow_cli.errors import DataError
from deflow_cli.runtime.progress import Reporter
from deflow_cli.training.domains import Domains, HeldOutSettings
from deflow_cli.training.run_folder import RunFolders

SMALLEST_SHOWN = 64  # px of an image that is shown


@dataclass(frozen=True)
class ReportSource:
    """Images of one domain. name: of their folder. held_out: files that the training never saw.

    training: whether the fingerprint says that they are the training's images; None if that is unknown.
    """

    name: str
    paths: tuple[Path, ...]
    held_out: frozenset[Path] = frozenset()
    training: bool | None = None


@dataclass(frozen=True)
class ReportSources:
    """Both domains; noisy is None where there is none. notes: what a reader of the page must know of them.

    packaged: the clean images are the package's own photographs.
    """

    clean: ReportSource
    noisy: ReportSource | None
    notes: tuple[str, ...] = ()
    packaged: bool = False


@dataclass(frozen=True)
class Subject:
    """One image that is looked at. held_out: None where it is not known whether the training saw it."""

    name: str
    pixels: Pixels
    held_out: bool | None


def sources_of_fit(domains: Domains, clean: Path, noisy: Path) -> ReportSources:
    """The folders of a fit that has just ended."""
    counts = domains.facts["held_out_images"]
    sides = []
    for folder, train, held, count in (
        (clean, domains.clean, domains.held_clean, counts[0]),
        (noisy, domains.noisy, domains.held_noisy, counts[1]),
    ):
        held_paths = frozenset(held.paths if count else ())
        sides.append(
            ReportSource(folder.resolve().name, (*train.paths, *held_paths), held_paths, training=True)
        )
    return ReportSources(sides[0], sides[1])


def find_sources(
    clean: Path | None,
    noisy: Path | None,
    recorded: RunFolders,
    facts: Mapping[str, Any],
    least_sides: tuple[int, int],
    settings: HeldOutSettings,
) -> ReportSources:
    """The folders given, else those the run recorded, else the packaged photographs as clean ones.

    facts: of the model's file. least_sides: px that an image of each domain has, settings: how the fit split
    them. Raises DataError for a given folder that cannot be used; a recorded one that is gone becomes a note.
    """
    found, notes = [], []
    for domain, given, folder, side in (
        ("clean", clean, recorded.clean, least_sides[0]),
        ("noisy", noisy, recorded.noisy, least_sides[1]),
    ):
        source, note = _find(domain, given, folder, facts, side, settings)
        found.append(source)
        notes += [note] if note else []
    if found[0] is not None:
        return ReportSources(found[0], found[1], tuple(notes))
    if clean is None and recorded.clean is None:
        notes.insert(
            0,
            "The clean pictures are photographs that come with deflow, not the training's; pass --clean DIR "
            "to see the model on others.",
        )
    paths = tuple(packaged_photos()[0])
    return ReportSources(ReportSource("packaged photographs", paths), found[1], tuple(notes), packaged=True)


def _find(
    domain: str,
    given: Path | None,
    recorded: Path | None,
    facts: Mapping[str, Any],
    least_side: int,
    settings: HeldOutSettings,
) -> tuple[ReportSource | None, str]:
    """One domain's images, and what to say of them."""
    folder = given or recorded
    if folder is None:
        missing = "The model file tells no folder; pass --noisy DIR to see real noisy images beside it."
        return None, missing if domain == "noisy" else ""
    name = folder.resolve().name
    try:
        scan = _scan(folder, least_side)
    except DataError:
        if given is not None:
            raise
        instead = (
            "packaged photographs stand in for it" if domain == "clean" else "none of its images is here"
        )
        return None, (
            f"The {domain} training folder “{name}” is gone, moved or unreadable: {instead}. "
            f"Pass --{domain} DIR with where it is now."
        )
    known, now = facts.get(f"{domain}_fingerprint"), fingerprint(scan)
    if known is None:
        return ReportSource(name, scan.paths), ""
    if known != now:
        return ReportSource(name, scan.paths, training=False), (
            f"The {domain} images are not those of the training: the folder “{name}” has the fingerprint "
            f"{now}, the training's had {known}."
        )
    _, held = split_held_out(scan.paths, settings.held_out, settings.seed, find_copies(scan))
    return ReportSource(name, scan.paths, frozenset(held), training=True), ""


def _scan(folder: Path, least_side: int) -> FolderScan:
    """As the fit scans it, so that fingerprints agree; smaller images serve where there are no others."""
    try:
        return scan_folder(folder, least_side)
    except DataError:
        if least_side <= SMALLEST_SHOWN:
            raise
        return scan_folder(folder, SMALLEST_SHOWN)


def pick_subjects(source: ReportSource, count: int, reporter: Reporter) -> list[Subject]:
    """Up to ``count`` images, held-out ones first, evenly spread; a warning tells of unreadable ones."""
    held = [path for path in source.paths if path in source.held_out]
    rest = [path for path in source.paths if path not in source.held_out]
    chosen = _spread(held, count)
    chosen += _spread(rest, count - len(chosen))
    found = []
    for path in chosen:
        try:
            pixels = read_rgb8(path)
        except DataError as error:
            reporter.warn(f"{error}; left out of the report")
            continue
        seen = None if source.training is not True else path in source.held_out
        found.append(Subject(path.name, pixels, seen))
    return found


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    if count <= 0 or not paths:
        return []
    places = np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int))
    return [paths[place] for place in places]
