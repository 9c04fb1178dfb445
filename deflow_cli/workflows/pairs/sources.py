"""The clean images that pairs are made of: which can be used, which cannot, and which look doubtful."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.images.folders import file_sha256, reason_of
from deflow_cli.data.images.listing import list_images, name_some
from deflow_cli.data.images.quality import doubts_about
from deflow_cli.errors import DataError
from deflow_cli.runtime.progress import Reporter

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

LEAST_LQ_SIDE = 16  # px; no trainer can use smaller degraded pictures
_NAMED = 8  # images named in a message; all are in the report


@dataclass(frozen=True)
class CleanImage:
    """An image that pairs are made of. key: its path below HR, with slashes, which also seeds the noise."""

    key: str
    sha256: str
    height: int
    width: int


@dataclass(frozen=True)
class CleanImages:
    """The usable images, sorted by key, and (key, reason) of those left out and of the doubtful ones."""

    root: Path
    images: tuple[CleanImage, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    doubtful: tuple[tuple[str, str], ...] = ()

    def path(self, image: int) -> Path:
        return self.root / self.images[image].key


def in_order(function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int) -> Iterator[_Result]:
    """Results of a function in the order of the items; threads compute a few of them ahead."""
    pending: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def root_of(hr: Path) -> Path:
    return hr if hr.is_dir() else hr.parent


def find_images(hr: Path, target: Path) -> list[Path]:
    """The images of HR, a folder or a file; an earlier OUT inside HR does not count.

    Raises DataError if there is none, or HR lies inside OUT.
    """
    out, source = target.resolve(), hr.resolve()
    if source.is_relative_to(out):
        raise DataError(f"{hr}: lies inside OUT ({target})", next_step="choose another OUT")
    if not hr.is_dir():
        return [hr]
    files = [path for path in list_images(hr) if not path.resolve().is_relative_to(out)]
    if not files:
        raise DataError(f"{hr}: no image found", next_step="pass a folder of clean images as HR")
    return files


def examine(hr: Path, target: Path, least_side: int, workers: int, reporter: Reporter) -> CleanImages:
    """Decode every image once; report those that are too small, broken or of low quality already.

    least_side: in px. Images that are too small or broken are left out with a warning, the others are used.
    Raises DataError if none is left.
    """
    root, files = root_of(hr), find_images(hr, target)
    images: list[CleanImage] = []
    left_out: list[tuple[str, str]] = []
    doubtful: list[tuple[str, str]] = []
    first_of: dict[str, str] = {}
    reporter.start("looking at images", len(files))
    looks = in_order(lambda path: _look(path, root, least_side), files, workers)
    for done, (source, trouble, doubts) in enumerate(looks, start=1):
        if trouble:
            left_out.append((source.key, trouble))
        else:
            images.append(source)
            twin = first_of.setdefault(source.sha256, source.key)
            if twin != source.key:
                doubts = [*doubts, f"the same file as {twin}"]
            if doubts:
                doubtful.append((source.key, "; ".join(doubts)))
        reporter.update(done, left_out=len(left_out))
    reporter.finish()
    if not images:
        raise DataError(
            f"{hr}: none of its {len(files)} images can be used: {_some(left_out)}",
            next_step=f"pass images of at least {least_side} px, or a smaller --crop or --scale",
        )
    if left_out:
        reporter.warn(f"{len(left_out)} of {len(files)} images left out: {_some(left_out)}")
    if doubtful:
        reporter.warn(
            f"of low quality already, it seems, but used: {len(doubtful)} of {len(images)}: {_some(doubtful)}"
        )
    return CleanImages(root, tuple(images), tuple(left_out), tuple(doubtful))


def check_unchanged(hr: Path, expected: Sequence[CleanImage], workers: int) -> None:
    """Raise DataError naming the images of a manifest that are missing below HR or not the same."""
    root = root_of(hr)

    def trouble(source: CleanImage) -> str:
        path = root / source.key
        if not path.is_file():
            return f"{source.key} is missing"
        return "" if file_sha256(path) == source.sha256 else f"{source.key} has another content"

    found = [text for text in in_order(trouble, expected, workers) if text]
    if found:
        raise DataError(
            f"{hr}: not the images of the manifest: {name_some(found, _NAMED)}",
            next_step="pass the folder that the data set was made from",
        )


def _look(path: Path, root: Path, least_side: int) -> tuple[CleanImage, str, list[str]]:
    """An image with its size and hash; why it cannot be used, if so; and what makes it doubtful."""
    key = path.relative_to(root).as_posix()
    try:
        pixels = read_rgb8(path)
        digest = file_sha256(path)
    except DataError as error:
        return CleanImage(key, "", 0, 0), reason_of(error, path), []
    height, width = pixels.shape[:2]
    source = CleanImage(key, digest, height, width)
    if min(height, width) < least_side:
        return source, f"{width}x{height} is smaller than {least_side} px", []
    return source, "", doubts_about(path, pixels)


def _some(items: Sequence[tuple[str, str]]) -> str:
    return name_some((f"{key} ({reason})" for key, reason in items), _NAMED)
