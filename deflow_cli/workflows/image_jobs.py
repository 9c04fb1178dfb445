"""Image jobs: which files a command reads and writes, and a loop over them that survives bad files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from deflow_cli.data.images.files import list_images, open_header
from deflow_cli.data.images.outputs import PlannedOutput, plan_outputs
from deflow_cli.errors import DataError, DeflowError
from deflow_cli.runtime.progress import Reporter

NO_ALPHA = (".jpg", ".jpeg", ".bmp")  # as they are written; a BMP can be read with alpha

Record = TypeVar("Record")
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
    image, or where an input would be overwritten.
    """
    inputs = _images_below(source, target, tag) if source.is_dir() else [source]
    return plan_outputs(
        inputs,
        source,
        target,
        ext=ext,
        samples=samples,
        needs_png=_needs_png,
        tag=tag,
        cannot_hold=_loses_alpha if keep_alpha else None,
    )


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
            except MemoryError:
                done.failed.append((item.source, "too large for this machine's memory"))
        reporter.update(index + 1, failed=len(done.failed))
    reporter.finish()
    return done


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
        with open_header(source) as image:
            return bool({"A", "a"} & set(image.getbands())) or "transparency" in image.info
    except (OSError, ValueError, SyntaxError):
        return False  # the reading proper will say what is wrong
