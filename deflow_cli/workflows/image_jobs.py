"""Image jobs: which files a command reads and writes, and a loop over them that survives bad files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from deflow_cli.data.images.files import read_header
from deflow_cli.data.images.listing import list_images
from deflow_cli.data.images.outputs import PlannedOutput, plan_outputs
from deflow_cli.errors import DataError, DeflowError, is_out_of_memory, memory_asked
from deflow_cli.paths import check_writable, clear_temporaries
from deflow_cli.runtime.progress import Reporter

WRITERS = 4  # threads that encode and write files, and images that wait for them at most
NO_ALPHA = (".jpg", ".jpeg", ".bmp")  # as they are written; a BMP can be read with alpha

Record = TypeVar("Record")
Loaded = TypeVar("Loaded")
Wait = Callable[[], None]
"""Returns when what it belongs to is done, or raises its error."""
Submit = Callable[[Callable[[], None]], Wait]
"""Has something done, at once or in a thread."""
Process = Callable[[PlannedOutput, Loaded, Submit], Callable[[], Record]]
"""Computes an image that was read and submits its writing; what it returns waits for that, for the record."""
Tell = Callable[[float], None]
"""Takes the share of an image that is done, 0 to 1, for those that take long."""


class Done(NamedTuple, Generic[Record]):
    """What became of the files: a record of each done, those skipped, those failed with the reason."""

    records: list[Record]
    skipped: list[Path]
    failed: list[tuple[Path, str]]


def plan_images(
    source: Path, target: Path, *, ext: str, samples: int = 1, tag: str = "", keep_alpha: bool = False
) -> list[PlannedOutput]:
    """The files to write for an image, or for every image below a folder; what lies in OUT is no input.

    tag: added to each name as ``_tag``; the names that end so are then no inputs where OUT is IN. keep_alpha:
    PNG instead of a format without alpha, also where ``ext`` or OUT name that. Raises DataError without any
    image, or where an input would be overwritten, or OUT may not be written to.
    """
    inputs = _images_below(source, target, tag) if source.is_dir() else [source]
    planned = plan_outputs(
        inputs,
        source,
        target,
        ext=ext,
        samples=samples,
        needs_png=_needs_png,
        tag=tag,
        cannot_hold=_loses_alpha if keep_alpha else None,
    )
    new = {target.parent: target for item in planned for target in item.targets if not target.exists()}
    for target in new.values():
        check_writable(target)
    for folder in {target.parent for item in planned for target in item.targets}:
        clear_temporaries(folder)
    return planned


def run_images(
    planned: Sequence[PlannedOutput],
    one: Callable[[PlannedOutput, Tell], Record],
    reporter: Reporter,
    *,
    title: str,
    skip_existing: bool,
) -> Done[Record]:
    """Do ``one`` to every file; a file that fails is listed with the reason, and the others go on."""
    done: Done[Record] = Done([], [], [])
    reporter.start(title, len(planned))
    for index, item in enumerate(planned):
        if skip_existing and all(target.exists() for target in item.targets):
            done.skipped.append(item.source)
        else:
            try:
                done.records.append(one(item, partial(_tell, reporter, index, len(done.failed))))
            except DeflowError as error:
                done.failed.append((item.source, str(error)))
            except (MemoryError, RuntimeError) as error:
                done.failed.append((item.source, _too_large(error)))
        reporter.update(index + 1, failed=len(done.failed))
    reporter.finish()
    return done


def at_once(action: Callable[[], None]) -> Wait:
    """Do something now; nothing is left to wait for."""
    action()
    return lambda: None


def run_images_overlapped(
    planned: Sequence[PlannedOutput],
    read: Callable[[PlannedOutput], Loaded],
    process: Process[Loaded, Record],
    reporter: Reporter,
    *,
    title: str,
    skip_existing: bool,
) -> Done[Record]:
    """``run_images`` while threads read the next image and write the last ones.

    What is reported and returned, and its order, are those of ``run_images``. An interruption lets the files
    finish that are being written.
    """
    done: Done[Record] = Done([], [], [])
    reporter.start(title, len(planned))
    readers, writers = ThreadPoolExecutor(1), ThreadPoolExecutor(WRITERS)
    waiting: deque[tuple[int, PlannedOutput, Callable[[], Record] | None]] = deque()

    def settle() -> None:
        index, item, finish = waiting.popleft()
        if finish is None:
            done.skipped.append(item.source)
        else:
            try:
                done.records.append(finish())
            except DeflowError as error:
                done.failed.append((item.source, str(error)))
            except (MemoryError, RuntimeError) as error:
                done.failed.append((item.source, _too_large(error)))
        reporter.update(index + 1, failed=len(done.failed))

    try:
        for index, (item, reading) in enumerate(_read_ahead(planned, read, readers, skip_existing)):
            finish = None if reading is None else _begun(item, reading, process, writers)
            waiting.append((index, item, finish))
            while len(waiting) > WRITERS:
                settle()
        while waiting:
            settle()
    finally:
        readers.shutdown(cancel_futures=True)
        writers.shutdown(cancel_futures=True)
    reporter.finish()
    return done


def _read_ahead(
    planned: Sequence[PlannedOutput],
    read: Callable[[PlannedOutput], Loaded],
    readers: ThreadPoolExecutor,
    skip_existing: bool,
) -> Iterator[tuple[PlannedOutput, Future[Loaded] | None]]:
    """Each item with its reading, None where it is skipped; the next one is read meanwhile."""

    def begin(item: PlannedOutput) -> Future[Loaded] | None:
        if skip_existing and all(target.exists() for target in item.targets):
            return None
        return readers.submit(read, item)

    following = [begin(item) for item in planned[:1]]
    for index, item in enumerate(planned):
        reading = following.pop()
        following += [begin(item) for item in planned[index + 1 : index + 2]]
        yield item, reading


def _begun(
    item: PlannedOutput,
    reading: Future[Loaded],
    process: Process[Loaded, Record],
    writers: ThreadPoolExecutor,
) -> Callable[[], Record]:
    """What finishes an item; errors up to here are raised there."""
    try:
        return process(item, reading.result(), lambda action: writers.submit(action).result)
    except (DeflowError, MemoryError, RuntimeError) as error:
        failure = error

    def fail() -> Record:
        raise failure

    return fail


def _too_large(error: MemoryError | RuntimeError) -> str:
    """The reason for a list of failures; other errors than lack of memory are raised."""
    if not is_out_of_memory(error):
        raise error
    return f"too large for this machine's memory{memory_asked(error)}"


def _tell(reporter: Reporter, index: int, failed: int, share: float) -> None:
    reporter.update(index, failed=failed, image=f"{share:.0%}")


def _images_below(source: Path, target: Path, tag: str) -> list[Path]:
    inputs = [path for path in list_images(source) if not _lies_in(path, target, source)]
    if tag and target.resolve() == source.resolve():
        inputs = [path for path in inputs if not path.stem.endswith(f"_{tag}")]
    if not inputs:
        raise DataError(f"{source}: no image found", next_step="pass an image or a folder of images")
    return inputs


def _lies_in(path: Path, target: Path, source: Path) -> bool:
    """Whether an image is an earlier output: OUT lies inside IN."""
    out, root = target.resolve(), source.resolve()
    return out != root and out.is_relative_to(root) and path.resolve().is_relative_to(out)


def _needs_png(source: Path) -> bool:
    """Whether a format cannot hold what the file has: BMP can be read, but not written, with alpha."""
    return source.suffix.lower() == ".bmp" and _has_alpha(source)


def _loses_alpha(source: Path, suffix: str) -> bool:
    return suffix.lower() in NO_ALPHA and _has_alpha(source)


def _has_alpha(source: Path) -> bool:
    try:
        return read_header(source).has_alpha
    except DataError:
        return False  # the reading proper will say what is wrong
