"""Shards: a data set made by many processes side by side, and the check that makes it one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.config.shards import Shard
from deflow_cli.data.images.listing import name_some
from deflow_cli.data.pairs.checksums import digest_of
from deflow_cli.data.pairs.formats import UNFINISHED, make_writer
from deflow_cli.data.pairs.records import STAGING
from deflow_cli.errors import DataError
from deflow_cli.runtime.folder_lock import sole_writer
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.pairs import target as folder
from deflow_cli.workflows.pairs.making import one_torch_thread
from deflow_cli.workflows.pairs.parts import Counted, PartMaker, plan_file, shared_plan
from deflow_cli.workflows.pairs.planning import plan_to_merge
from deflow_cli.workflows.pairs.request import MakePairsReport, MakePairsRequest, report_of
from deflow_cli.workflows.pairs.sources import in_order

SHARDS = f"{STAGING}/shards"  # locks and done-files, below the data set
_DONE = re.compile(r"(\d+)-of-(\d+)\.json")


@dataclass(frozen=True)
class DoneFile:
    """What a shard leaves when it is done. files: SHA-256 by name below the data set."""

    shard: Shard
    pairs: int
    files: dict[str, str]

    @staticmethod
    def path(target: Path, shard: Shard) -> Path:
        return target / SHARDS / f"{shard.number:05d}-of-{shard.count:05d}.json"

    def write(self, target: Path) -> None:
        content = {"shard": str(self.shard), "pairs": self.pairs, "files": self.files}
        write_atomically(self.path(target, self.shard), json.dumps(content, indent=0).encode())

    @classmethod
    def read(cls, path: Path) -> DoneFile:
        """Raises DataError for a file that is not one of ours."""
        try:
            content = json.loads(path.read_text("utf-8"))
            number, count = map(int, str(content["shard"]).split("/"))
            return cls(Shard(number, count), int(content["pairs"]), dict(content["files"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: cannot be read ({error})", next_step="remove it, and run that shard again"
            ) from error


def make_shard(request: MakePairsRequest, shard: Shard, workers: int, reporter: Reporter) -> MakePairsReport:
    """Make one part of a data set, and leave a done-file; other processes may make the other parts meanwhile.

    Raises DataError where the folder holds other pairs, an image has changed, or another process makes the
    same part.
    """
    started = time.perf_counter()
    plan = shared_plan(request, workers, reporter)
    part = PartMaker(plan, request, workers)
    units = shard.of(part.units)
    slots = part.slots(units)
    if not (request.target / UNFINISHED).is_file():
        reporter.note(f"{request.target}: complete already")
        return report_of(request, plan, slots, 0, workers, started)
    with _alone_in_shard(request.target, shard, reporter), one_torch_thread():
        try:
            written = part.make(units, Counted(reporter, f"making pairs of shard {shard}", len(slots)))
        finally:
            part.close()
        reporter.finish()
        DoneFile(shard, len(slots), part.digests(units)).write(request.target)
    return report_of(request, plan, slots, written, workers, started)


@contextmanager
def _alone_in_shard(target: Path, shard: Shard, reporter: Reporter) -> Iterator[None]:
    lock = f"{SHARDS}/{shard.number:05d}-of-{shard.count:05d}.lock"
    with sole_writer(
        target,
        lock,
        what=f"another process that makes shard {shard}",
        next_step="make another shard",
        warn=reporter.warn,
    ):
        yield


@contextmanager
def no_shard(target: Path, reporter: Reporter) -> Iterator[None]:
    """Raise DataError while a shard of the data set is being made."""
    with ExitStack() as stack:
        for lock in sorted((target / SHARDS).glob("*.lock")):
            name = lock.relative_to(target).as_posix()
            what, step = "a shard's process", "start again then"
            stack.enter_context(sole_writer(target, name, what=what, next_step=step, warn=reporter.warn))
        yield


def merge_shards(request: MakePairsRequest, workers: int, reporter: Reporter) -> MakePairsReport:
    """Check what the shards made, and make one data set of it. Raises DataError naming what is missing."""
    started = time.perf_counter()
    target = request.target
    path = plan_file(request)
    if path is None:
        raise DataError(
            f"{target}: no shard has begun there", next_step="make the pairs by --shard I/N first"
        )
    plan = plan_to_merge(request, path)
    slots = plan.slots
    if path.name != UNFINISHED:
        reporter.note(f"{target}: complete already")
        return report_of(request, plan, slots, 0, workers, started)
    with folder.alone(target, reporter), no_shard(target, reporter):
        wrong = _changed_shards(target, _complete_set(target), workers, reporter)
        if wrong:
            _refuse(target, wrong)
        writer = make_writer(plan.manifest.settings.format, target, slots)
        try:
            if missing := writer.missing():
                raise DataError(
                    f"{target}: {len(missing)} pairs are missing or damaged: {name_some(sorted(missing))}",
                    next_step="run the same command without --merge: it makes what is missing",
                )
            writer.finish()
        finally:
            writer.close()
        folder.complete(target, plan.manifest, slots, workers, reporter)
    return report_of(request, plan, slots, len(slots), workers, started)


def _changed_shards(target: Path, done: Sequence[DoneFile], workers: int, reporter: Reporter) -> list[Shard]:
    """The shards of which a file is not what they wrote."""
    files = [(name, digest, each.shard) for each in done for name, digest in each.files.items()]
    told = Counted(reporter, "comparing with the shards' checksums", len(files))
    wrong: list[Shard] = []
    found = in_order(lambda file: digest_of(target / file[0]), files, workers)
    for digest, (_, expected, shard) in zip(found, files, strict=True):
        if digest != expected and shard not in wrong:
            wrong.append(shard)
        told(1)
    reporter.finish()
    return wrong


def _complete_set(target: Path) -> list[DoneFile]:
    """The done-files of all parts of a division. Raises DataError naming the parts that lack."""
    paths = sorted((target / SHARDS).glob("*.json"))
    found = [DoneFile.read(path) for path in paths if _DONE.fullmatch(path.name)]
    counts = sorted({each.shard.count for each in found})
    lacking = []
    for count in counts:
        there = {each.shard.number: each for each in found if each.shard.count == count}
        missing = [number for number in range(1, count + 1) if number not in there]
        if not missing:
            return list(there.values())
        lacking.append((len(missing), count, missing))
    if not lacking:
        raise DataError(f"{target}: no shard is done", next_step="make the pairs by --shard I/N first")
    _, count, missing = min(lacking)
    names = name_some(f"{number}/{count}" for number in missing)
    raise DataError(
        f"{target}: {len(missing)} of {count} shards are not done: {names}",
        next_step=f"run them (again): --shard {missing[0]}/{count}",
    )


def _refuse(target: Path, wrong: Sequence[Shard]) -> None:
    """Raise DataError that says which shards are to be made again."""
    for shard in wrong:
        DoneFile.path(target, shard).unlink(missing_ok=True)
    raise DataError(
        f"{target}: files of these shards are not what they wrote: {name_some(map(str, wrong))}",
        next_step=f"run them again: --shard {wrong[0]}",
    )
