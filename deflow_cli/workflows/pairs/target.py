"""Folder of a data set: whether it may be written to, what it holds already, and how it becomes complete."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.data.images.listing import name_some
from deflow_cli.data.pairs.checksums import SUMS, digest_of, read_sums, sums_text
from deflow_cli.data.pairs.formats import LOCK, MANIFEST, UNFINISHED, clear_pairs, files_of, side_files
from deflow_cli.data.pairs.records import STAGING, PairSlot
from deflow_cli.errors import DataError
from deflow_cli.paths import clear_temporaries
from deflow_cli.runtime.folder_lock import sole_writer
from deflow_cli.runtime.progress import Reporter
from deflow_cli.texts import encoded
from deflow_cli.workflows.pairs.plan import Manifest, differences, load_content
from deflow_cli.workflows.pairs.sources import in_order


def prepare(target: Path, manifest: Manifest, overwrite: bool) -> bool:
    """Make sure that ``target`` is free, or holds this very data set; return whether that is complete.

    overwrite: a data set that deflow made there is removed first; other files never are. Raises DataError
    otherwise, with what differs.
    """
    done = check(target, manifest, overwrite)
    if overwrite and _manifests(target):
        clear_pairs(target)
    return done


def _manifests(target: Path) -> list[Path]:
    return [target / name for name in (UNFINISHED, MANIFEST) if (target / name).is_file()]


def check(target: Path, manifest: Manifest, overwrite: bool) -> bool:
    """Whether ``target`` holds the data set, complete. Raises DataError if it must not be written to."""
    if not target.is_dir():
        raise DataError(f"{target}: is a file, not a folder", next_step="choose another OUT")
    found = _manifests(target)
    if not found:
        foreign = sorted(path.name for path in target.iterdir() if not path.name.startswith("."))
        if foreign:
            raise DataError(
                f"{target}: holds what is no data set of deflow: {name_some(foreign)}",
                next_step="choose another OUT, or move that away",
            )
        return False
    if overwrite:
        return False
    if found[0].read_text("utf-8") != manifest.text():
        refuse_other(found[0], load_content(found[0]), manifest)
    return found[0].name == MANIFEST


def refuse_other(path: Path, content: Mapping[str, Any], manifest: Manifest) -> None:
    """Raise DataError, with what differs, unless ``content`` of the file ``path`` is that of the manifest."""
    differing = differences(content, json.loads(manifest.text()))
    if not differing:
        return
    target, what = path.parent, "an unfinished data set" if path.name == UNFINISHED else "a data set"
    raise DataError(
        f"{target}: holds {what} made otherwise: {name_some(differing, 5)}",
        next_step="choose another OUT, repeat its command, or replace it by --overwrite",
    )


def begin(target: Path, manifest: Manifest) -> None:
    """Mark ``target`` as unfinished."""
    write_atomically(target / UNFINISHED, encoded(manifest.text()))


def damaged_files(
    target: Path, manifest: Manifest, slots: Sequence[PairSlot], workers: int, reporter: Reporter
) -> list[str] | None:
    """The files of a complete data set that are missing or have another content than when it was made.

    None where it has no checksums to compare with (an earlier version wrote none, or they are damaged).
    Files beside the pairs that nobody listed are told, since trainers would read them.
    """
    expected, names = read_sums(target), files_of(manifest.settings.format, slots)
    if expected is None or set(expected) != set(names):
        return None
    digests = _digests(target, names, workers, reporter)
    extra = sorted(
        path.relative_to(target).as_posix()
        for folder in ({(target / name).parent for name in names} - {target})
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.relative_to(target).as_posix() not in expected and path.name != "lock.mdb"
    )
    if extra:
        reporter.warn(f"{target}: {len(extra)} files there are none of the data set: {name_some(extra)}")
    return [name for name in names if digests[name] != expected[name]]


def _digests(target: Path, names: Sequence[str], workers: int, reporter: Reporter) -> dict[str, str]:
    reporter.start("checksums", len(names))
    found: dict[str, str] = {}
    for name, digest in zip(
        names, in_order(lambda name: digest_of(target / name), names, workers), strict=True
    ):
        found[name] = digest
        reporter.update(len(found))
    reporter.finish()
    return found


def remove_damaged(target: Path, manifest: Manifest, damaged: Sequence[str], reporter: Reporter) -> None:
    """Mark the data set as unfinished, and remove the files that are to be made anew."""
    begin(target, manifest)
    reporter.warn(
        f"{target}: {len(damaged)} files are damaged or missing, and made anew: {name_some(damaged)}"
    )
    for name in damaged:
        (target / name).unlink(missing_ok=True)


def complete(
    target: Path, manifest: Manifest, slots: Sequence[PairSlot], workers: int, reporter: Reporter
) -> None:
    """Write the files beside the pairs, the manifest last, and remove the mark of an unfinished data set."""
    kind = manifest.settings.format
    for name, text in side_files(kind, slots).items():
        write_atomically(target / name, encoded(text))
    digests = _digests(target, files_of(kind, slots), workers, reporter)
    write_atomically(target / SUMS, sums_text(digests).encode())
    write_atomically(target / MANIFEST, encoded(manifest.text()))
    (target / UNFINISHED).unlink(missing_ok=True)


@contextlib.contextmanager
def alone(target: Path, reporter: Reporter) -> Iterator[None]:
    """Keep other processes from writing to ``target``, and remove temporary files afterwards.

    Those of processes that were killed are removed before. The files with which an interrupted run can go on
    are kept. Raises DataError if ``target`` cannot be a folder, or another process writes there.
    """
    lock = f"{STAGING}/{LOCK}"
    next_step = "choose another OUT"
    with sole_writer(target, lock, what="another deflow make-pairs", next_step=next_step, warn=reporter.warn):
        clear_temporaries(target)
        try:
            yield
        finally:
            if not (target / UNFINISHED).exists():
                shutil.rmtree(target / STAGING, ignore_errors=True)
