"""Compare: a page that shows two versions of images with a slider between them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.images.folders import inspect_size
from deflow_cli.data.images.listing import name_some
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.data.reference_matching import MatchedImage, match_references, missing_names
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.reports.pages.compare_page import ComparedPair, compare_page
from deflow_cli.reports.pages.pictures import data_uri
from deflow_cli.runtime.progress import Reporter
from deflow_cli.texts import encoded

MOST_BYTES = 150_000_000  # of a page that holds its pictures; browsers slow down beyond
SHOWN_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".avif"})  # by browsers


@dataclass(frozen=True)
class CompareRequest:
    """What `deflow compare` was asked for. first, second: images, or folders of equal names.

    labels: of the two; by default their names. linked: the page names the files instead of holding pictures.
    """

    first: Path
    second: Path
    target: Path
    labels: tuple[str, str] | None = None
    linked: bool = False


@dataclass(frozen=True)
class CompareRecord:
    """What was made. images: pairs on the page. bytes: of the page."""

    page: Path
    labels: tuple[str, str]
    images: int
    bytes: int
    linked: bool


@hears_remarks
def compare_images(request: CompareRequest, reporter: Reporter) -> CompareRecord:
    """Write the page. Raises DeflowError for missing partners, and sizes that are no multiples."""
    methods = match_references((request.first, request.second))
    if lacking := missing_names(methods):
        raise DataError(
            f"the two hold different images: {'; '.join(lacking)}",
            next_step="add what is missing, or remove what has no partner",
        )
    others = {image.name: image for image in methods[1].images}
    pairs = [(image, others[image.name]) for image in methods[0].images]
    sizes = _sizes(pairs)
    labels = request.labels or (methods[0].name, methods[1].name)
    shown = _linked(pairs, request.target) if request.linked else _held(pairs, reporter)
    compared = [
        ComparedPair(ours.name, *sources, size)
        for (ours, _), sources, size in zip(pairs, shown, sizes, strict=True)
    ]
    text = encoded(compare_page(compared, labels, request.linked, _notes(sizes, request.linked)))
    write_atomically(request.target, text)
    return CompareRecord(request.target, labels, len(pairs), len(text), request.linked)


_Pair = tuple[MatchedImage, MatchedImage]
_Size = tuple[int, int]


def _sizes(pairs: Sequence[_Pair]) -> list[tuple[_Size, _Size]]:
    """Sizes of both sides. Raises DataError naming pairs of which neither is a multiple of the other."""
    sizes = [(a.size or inspect_size(a.path), b.size or inspect_size(b.path)) for a, b in pairs]
    wrong = [
        f"{ours.name} ({a[0]}x{a[1]} and {b[0]}x{b[1]})"
        for (ours, _), (a, b) in zip(pairs, sizes, strict=True)
        if not _is_multiple(*sorted((a, b)))
    ]
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(pairs)} pairs do not fit on top of each other: {name_some(wrong)}",
            next_step="compare images of one size, or of a whole multiple such as an input and its output",
        )
    return sizes


def _is_multiple(small: _Size, large: _Size) -> bool:
    factor = large[0] // small[0]
    return (small[0] * factor, small[1] * factor) == large


def _held(pairs: Sequence[_Pair], reporter: Reporter) -> Iterator[tuple[str, str]]:
    """Pictures as data URIs, lossless. Raises ConfigError where they are too many for a page."""
    total = 0
    reporter.start("pictures", len(pairs))
    for done, pair in enumerate(pairs, start=1):
        first, second = (data_uri(read_rgb8(side.path)) for side in pair)
        total += len(first) + len(second)
        if total > MOST_BYTES:
            raise ConfigError(
                f"a page that holds all {len(pairs)} pairs would be larger than {MOST_BYTES / 1e6:.0f} MB"
                f" ({done} pairs are {total / 1e6:.0f} MB)",
                next_step="pass --link, so that the page names the files, or compare fewer images",
            )
        yield first, second
        reporter.update(done)
    reporter.finish()


def _linked(pairs: Sequence[_Pair], target: Path) -> Iterator[tuple[str, str]]:
    """Addresses of the files relative to the page. Raises DataError for files that browsers do not show."""
    paths = [side.path for pair in pairs for side in pair]
    unknown = [str(path) for path in paths if path.suffix.lower() not in SHOWN_SUFFIXES]
    if unknown:
        raise DataError(
            f"browsers do not show {len(unknown)} of {len(paths)} files: {name_some(unknown)}",
            next_step="leave --link out, so that the page holds them as PNG",
        )
    folder = target.absolute().parent
    for pair in pairs:
        first, second = (quote(os.path.relpath(side.path.absolute(), folder)) for side in pair)
        yield first, second


def _notes(sizes: Sequence[tuple[_Size, _Size]], linked: bool) -> tuple[str, ...]:
    notes = []
    if any(first != second for first, second in sizes):
        notes.append(
            "Sizes differ: the smaller of two pictures is enlarged by a whole factor, pixel by pixel."
        )
    if linked:
        notes.append("The browser reads the files themselves, and applies colour profiles that they carry.")
    return tuple(notes)
