"""Make pairs: clean images to a data set of clean and degraded ones, which its manifest makes again."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deflow_cli.data.blur_kernels import BlurKernel, blur_and_downsample, load_kernels
from deflow_cli.data.images.files import read_rgb8, to_pixels, to_tensor
from deflow_cli.data.images.resize import downsample
from deflow_cli.data.pairs.formats import check_format, make_writer
from deflow_cli.data.pairs.records import EncodedPair, encode_png
from deflow_cli.degraders.base import DegraderConfig, DegraderContext, ReadyDegrader
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import ConfigError, DataError, DeflowError
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.pairs import target as make_pairs_target
from deflow_cli.workflows.pairs.plan import (
    LIBRARIES,
    Manifest,
    PairSettings,
    PlannedImage,
    kernel_facts,
    plan_pairs,
    read_manifest,
)
from deflow_cli.workflows.pairs.sources import Sources, check_unchanged, examine, in_order, root_of

MOST_WORKERS = 16
WORKER_BYTES = 2_000_000_000  # memory that degrading a large picture takes
TRIED = 3  # images made for an estimate


@dataclass(frozen=True)
class MakePairsRequest:
    """What `deflow make-pairs` was asked for.

    source: HR, a folder of clean images or one image. manifest: of a data set to make again; it stands for
    settings and degrader, of which only the places of model, folders and kernels count then. workers: threads
    (None: by cores and memory); they do not change the result. device: where DeFlow runs.
    """

    source: Path
    target: Path
    settings: PairSettings = field(default_factory=PairSettings)
    degrader: DegraderChoice = field(default_factory=DegraderChoice)
    kernels: Path | None = None
    manifest: Path | None = None
    workers: int | None = None
    device: str = "auto"
    dry_run: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Estimate:
    """What a data set will take: seconds and bytes, by a few pairs made; free: bytes on OUT's disk."""

    seconds: float
    bytes: int
    free: int


@dataclass(frozen=True)
class MakePairsReport:
    """What was done, or would be. gt_sizes, lq_sizes: smallest and largest (height, width) by area.

    written: pairs made in this run; the others were there. left_out, doubtful: (image, reason). estimate: of
    a dry run.
    """

    target: Path
    format: str
    degrader: dict[str, Any]
    model: Path | None
    model_origin: str
    images: int
    pairs: int
    written: int
    gt_sizes: tuple[tuple[int, int], tuple[int, int]]
    lq_sizes: tuple[tuple[int, int], tuple[int, int]]
    left_out: tuple[tuple[str, str], ...]
    doubtful: tuple[tuple[str, str], ...]
    workers: int
    seconds: float
    estimate: Estimate | None = None


@dataclass(frozen=True)
class _Plan:
    """All that is decided before the first pair."""

    manifest: Manifest
    chosen: ReadyDegrader
    kernels: Sequence[BlurKernel]
    images: Sequence[PlannedImage]

    @property
    def sources(self) -> Sources:
        return self.manifest.sources


def make_pairs(request: MakePairsRequest, reporter: Reporter) -> MakePairsReport:
    """Make a data set of pairs, or go on with one that was interrupted; a dry run writes nothing.

    HR is cropped to a multiple of the scale (from the upper left corner), blurred by a kernel if any,
    downsampled, degraded as a whole, rounded to 8 bit, and both are cut to sub-images if asked for. The
    result depends on the manifest alone, not on the workers or on interruptions. Raises DeflowError naming
    the file or the option that will not do.
    """
    started = time.perf_counter()
    workers = request.workers or _automatic_workers()
    plan = _plan(request, workers, reporter)
    if request.dry_run:
        if request.target.exists():
            make_pairs_target.check(request.target, plan.manifest, request.overwrite)
        return _report(request, plan, 0, workers, started, _estimate(request, plan, workers, reporter))
    target = request.target
    slots = [slot for planned in plan.images for slot in planned.slots]
    with make_pairs_target.alone(target), _one_torch_thread():
        done = make_pairs_target.prepare(target, plan.manifest, request.overwrite)
        writer = make_writer(plan.manifest.settings.format, target, slots)
        try:
            missing = writer.missing()
            if done and not missing:
                reporter.note(f"{target}: complete already")
                return _report(request, plan, 0, workers, started)
            make_pairs_target.begin(target, plan.manifest)
            if len(missing) < len(slots):
                reporter.note(
                    f"{target}: {len(slots) - len(missing)} of {len(slots)} pairs are there; going on"
                )
            todo = [planned for planned in plan.images if any(slot.key in missing for slot in planned.slots)]
            reporter.start("making pairs", len(slots))
            count = len(slots) - len(missing)
            for pairs in in_order(_Maker(plan, missing), todo, workers):
                writer.write(pairs)
                count += len(pairs)
                reporter.update(count)
            reporter.finish()
            writer.finish()
        finally:
            writer.close()
        make_pairs_target.complete(target, plan.manifest, slots)
    return _report(request, plan, len(missing), workers, started)


# -- before -----------------------------------------------------------------------------------------------


def _plan(request: MakePairsRequest, workers: int, reporter: Reporter) -> _Plan:
    """Look at everything that can be wrong before anything is written."""
    if request.manifest is not None:
        return _plan_again(request, request.manifest, workers, reporter)
    settings = request.settings
    check_format(settings.format)
    kernels = load_kernels(request.kernels) if request.kernels is not None else []
    degrader = request.degrader.config()
    device = choose_device(request.device)
    if not degrader.runs_on_device:
        device = torch.device("cpu")
    sources = examine(request.source, request.target, settings.least_side, workers, reporter)
    chosen = _prepare(degrader, sources, settings, device, reporter)
    images = plan_pairs(sources, settings, kernels)
    if settings.variants > 1 and chosen.facts["name"] == "none" and not kernels:
        reporter.warn("without a degrader and kernels all variants of an image are equal")
    manifest = Manifest(
        settings,
        chosen.facts,
        kernel_facts(kernels),
        device.type,
        sources,
        sum(len(planned.slots) for planned in images),
    )
    return _Plan(manifest, chosen, kernels, images)


def _plan_again(request: MakePairsRequest, path: Path, workers: int, reporter: Reporter) -> _Plan:
    """The plan of a manifest, with its images, model, folders and kernels found and compared."""
    manifest, content = read_manifest(path, root_of(request.source))
    check_format(manifest.settings.format)
    if request.device != "auto" and request.device.partition(":")[0] != manifest.device:
        raise ConfigError(
            f"--device {request.device}, but {path} was made on {manifest.device}: the bits would differ",
            next_step="leave out --device",
        )
    if content["libraries"] != LIBRARIES:
        told = ", ".join(f"{name} {version}" for name, version in content["libraries"].items())
        reporter.warn(f"{path} was made with {told}: bits may differ")
    check_unchanged(request.source, manifest.sources.images, workers)
    kernels = _same_kernels(request.kernels, manifest)
    degrader = request.degrader.repeating(manifest.degrader)
    device = choose_device(request.device if request.device != "auto" else manifest.device)
    chosen = _prepare(degrader, manifest.sources, manifest.settings, device, reporter)
    degrader.check_repeated(chosen.facts, manifest.degrader)
    chosen = replace(chosen, facts=dict(manifest.degrader))
    return _Plan(manifest, chosen, kernels, plan_pairs(manifest.sources, manifest.settings, kernels))


def _same_kernels(folder: Path | None, manifest: Manifest) -> list[BlurKernel]:
    if not manifest.kernels:
        return []
    if folder is None:
        raise ConfigError("the manifest's pairs were made with blur kernels", next_step="add --kernels DIR")
    kernels = load_kernels(folder)
    if kernel_facts(kernels) != [dict(kernel) for kernel in manifest.kernels]:
        raise DataError(f"{folder}: not the manifest's kernels", next_step="pass that folder as --kernels")
    return kernels


def _prepare(
    degrader: DegraderConfig,
    sources: Sources,
    settings: PairSettings,
    device: torch.device,
    reporter: Reporter,
) -> ReadyDegrader:
    clean = [sources.path(index) for index in range(len(sources.images))]
    return degrader.prepare(DegraderContext(clean, settings.scale, settings.resize, device, reporter))


def _automatic_workers() -> int:
    """As many threads as there are cores, while memory lasts for each."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        free = cores * WORKER_BYTES
    return max(1, min(cores, MOST_WORKERS, free // WORKER_BYTES))


@contextlib.contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Each worker computes alone: faster than sharing cores, and sums do not depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -- one image --------------------------------------------------------------------------------------------


class _Maker:
    """Makes the missing pairs of a planned image; called by several threads at once."""

    def __init__(self, plan: _Plan, missing: set[str] | None = None) -> None:
        self._plan = plan
        self._missing = missing
        # one picture at a time on a CUDA device: its memory is planned for that
        self._turn = threading.Lock() if plan.manifest.device == "cuda" else contextlib.nullcontext()

    def __call__(self, planned: PlannedImage) -> list[EncodedPair]:
        sources = self._plan.sources
        path = sources.path(planned.image)
        source = sources.images[planned.image]
        gt = read_rgb8(path)
        if gt.shape[:2] != (source.height, source.width):
            raise DataError(
                f"{path}: has changed meanwhile", next_step="start again when the images stay as they are"
            )
        try:
            lq = self._degraded(gt, planned)
        except DeflowError as error:
            raise type(error)(f"{path}: {error}", next_step=error.next_step) from error
        except MemoryError as error:
            raise DataError(
                f"{path}: too large for this machine's memory", next_step="use fewer --workers"
            ) from error
        scale = self._plan.manifest.settings.scale
        return [
            EncodedPair(
                slot,
                encode_png(np.ascontiguousarray(gt[box.slices])),
                encode_png(np.ascontiguousarray(lq[box.divided(scale).slices])),
            )
            for slot, box in zip(planned.slots, planned.boxes, strict=True)
            if self._missing is None or slot.key in self._missing
        ]

    def _degraded(self, gt: NDArray[np.uint8], planned: PlannedImage) -> NDArray[np.uint8]:
        """The small degraded picture of the whole image."""
        settings = self._plan.manifest.settings
        scale, rule = settings.scale, settings.resize
        cropped = gt[: gt.shape[0] // scale * scale, : gt.shape[1] // scale * scale]
        clean: NDArray[Any]
        if planned.kernel is None:
            clean = downsample(cropped, scale, rule)
        else:
            kernel = self._plan.kernels[planned.kernel]
            sampling = settings.kernel_sampling
            clean = blur_and_downsample(cropped, kernel, scale, rule, sampling)
        if clean.dtype == np.uint8:
            tensor = to_tensor(clean)
        else:
            planes = np.ascontiguousarray(clean.transpose(2, 0, 1), dtype=np.float32)
            tensor = torch.from_numpy(planes)[None].clamp(0, 1)
        with self._turn:
            degraded = self._plan.chosen.degrader.degrade(tensor, [planned.draw])
        return to_pixels(degraded)


# -- after, or instead ------------------------------------------------------------------------------------


def _estimate(request: MakePairsRequest, plan: _Plan, workers: int, reporter: Reporter) -> Estimate:
    """Time and disk by a few images made and thrown away."""
    places = np.unique(np.linspace(0, len(plan.images) - 1, TRIED).round().astype(int))
    reporter.start("trying", len(places))
    make = _Maker(plan)
    pixels = size = 0
    with _one_torch_thread():
        make(plan.images[0])  # torch prepares itself at first
        started = time.perf_counter()
        for done, place in enumerate(places, start=1):
            pairs = make(plan.images[place])
            pixels += _area(plan.images[place])
            size += sum(len(pair.gt) + len(pair.lq) for pair in pairs)
            reporter.update(done)
    seconds = time.perf_counter() - started
    reporter.finish()
    share = sum(_area(planned) for planned in plan.images) / pixels
    parent = next(path for path in (request.target, *request.target.absolute().parents) if path.exists())
    total = int(size * share)
    free = shutil.disk_usage(parent).free
    peak = total * (2 if plan.manifest.settings.format == "lmdb" else 1)
    if peak > free:
        reporter.warn(f"{parent}: {free / 1e9:.1f} GB are free, and about {peak / 1e9:.1f} GB are needed")
    return Estimate(seconds * share / workers, total, free)


def _area(planned: PlannedImage) -> int:
    return sum(slot.gt_size[0] * slot.gt_size[1] for slot in planned.slots)


def _report(
    request: MakePairsRequest,
    plan: _Plan,
    written: int,
    workers: int,
    started: float,
    estimate: Estimate | None = None,
) -> MakePairsReport:
    slots = [slot for planned in plan.images for slot in planned.slots]
    gt = sorted({slot.gt_size for slot in slots}, key=lambda size: (size[0] * size[1], size))
    lq = sorted({slot.lq_size for slot in slots}, key=lambda size: (size[0] * size[1], size))
    model = plan.chosen.model
    return MakePairsReport(
        request.target,
        plan.manifest.settings.format,
        dict(plan.chosen.facts),
        model.path if model else None,
        model.origin if model else "",
        len(plan.sources.images),
        len(slots),
        written,
        (gt[0], gt[-1]),
        (lq[0], lq[-1]),
        plan.sources.left_out,
        plan.sources.doubtful,
        workers,
        time.perf_counter() - started,
        estimate,
    )
