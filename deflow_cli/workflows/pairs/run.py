"""Make pairs: a data set of clean and degraded images, which its manifest can reproduce."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deflow_cli.data.blur.kernels import BlurKernel, load_kernels
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.data.pairs.formats import check_format, make_writer
from deflow_cli.degraders.base import DegraderConfig, DegraderContext, ReadyDegrader
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.pairs import target as make_pairs_target
from deflow_cli.workflows.pairs.making import PairMaker, PairPlan, automatic_workers, one_torch_thread
from deflow_cli.workflows.pairs.plan import (
    LIBRARIES,
    Manifest,
    PairSettings,
    PlannedImage,
    kernel_facts,
    plan_pairs,
    read_manifest,
)
from deflow_cli.workflows.pairs.sources import CleanImages, check_unchanged, examine, in_order, root_of

TRIED = 3  # images made for an estimate


@dataclass(frozen=True)
class MakePairsRequest:
    """What `deflow make-pairs` was asked for.

    source: HR, a folder of clean images or one image. manifest: of a data set to make again; it replaces the
    settings and the degrader, apart from the places of model, folders and kernels. workers: threads (None: by
    cores and memory), which do not change the result. device: where a degrader runs that can use one.
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
    """Seconds and bytes that a data set will take, by a few of its pairs. free: bytes left on OUT's disk."""

    seconds: float
    bytes: int
    free: int


@dataclass(frozen=True)
class MakePairsReport:
    """What was done, or would be.

    gt_sizes, lq_sizes: smallest and largest (height, width) by area. written: pairs made in this run; the
    others were there before. left_out, doubtful: (image, reason). estimate: of a dry run.
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


@hears_remarks
def make_pairs(request: MakePairsRequest, reporter: Reporter) -> MakePairsReport:
    """Make a data set of pairs, or go on with one that was interrupted; a dry run writes nothing.

    HR is cropped to a multiple of the scale (from the upper left corner), blurred by a kernel if any,
    downsampled, degraded as a whole, rounded to 8 bit, and both are cut to sub-images if asked for. The
    result depends on the manifest alone, not on the workers or on interruptions. Raises DeflowError naming
    the file or the option that will not do.
    """
    started = time.perf_counter()
    workers = request.workers or automatic_workers()
    plan = _plan(request, workers, reporter)
    if request.dry_run:
        if request.target.exists():
            make_pairs_target.check(request.target, plan.manifest, request.overwrite)
        return _report(request, plan, 0, workers, started, _estimate(request, plan, workers, reporter))
    target = request.target
    slots = [slot for planned in plan.images for slot in planned.slots]
    with make_pairs_target.alone(target, reporter), one_torch_thread():
        done = make_pairs_target.prepare(target, plan.manifest, request.overwrite)
        if done:
            damaged = make_pairs_target.damaged_files(target, plan.manifest, slots, workers, reporter)
            if damaged == []:
                reporter.note(f"{target}: complete already")
                return _report(request, plan, 0, workers, started)
            if damaged:
                make_pairs_target.remove_damaged(target, plan.manifest, damaged, reporter)
        writer = make_writer(plan.manifest.settings.format, target, slots)
        try:
            missing = writer.missing()
            make_pairs_target.begin(target, plan.manifest)
            if missing and len(missing) < len(slots):
                reporter.note(
                    f"{target}: {len(slots) - len(missing)} of {len(slots)} pairs are there; going on"
                )
            todo = [planned for planned in plan.images if any(slot.key in missing for slot in planned.slots)]
            reporter.start("making pairs", len(slots))
            count = len(slots) - len(missing)
            for pairs in in_order(PairMaker(plan, missing), todo, workers):
                writer.write(pairs)
                count += len(pairs)
                reporter.update(count)
            reporter.finish()
            writer.finish()
        finally:
            writer.close()
        make_pairs_target.complete(target, plan.manifest, slots, workers, reporter)
    return _report(request, plan, len(missing), workers, started)


# -- before -----------------------------------------------------------------------------------------------


def _plan(request: MakePairsRequest, workers: int, reporter: Reporter) -> PairPlan:
    """Check everything that can be wrong before anything is written."""
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
    _check_shrinking(chosen, settings, kernels)
    images = plan_pairs(sources, settings, kernels)
    if not degrader.is_random:
        _tell_not_random(degrader.name, settings, kernels, reporter)
    manifest = Manifest(
        settings,
        chosen.facts,
        kernel_facts(kernels),
        device.type,
        sources,
        sum(len(planned.slots) for planned in images),
    )
    return PairPlan(manifest, chosen, kernels, images)


def _check_shrinking(chosen: ReadyDegrader, settings: PairSettings, kernels: Sequence[BlurKernel]) -> None:
    """Raise ConfigError where a degrader makes pictures smaller itself, and something else is to do it."""
    chosen.check_scale(settings.scale)
    if chosen.shrinks is not None and kernels:
        raise ConfigError(
            f"the degrader {chosen.facts['name']} makes pictures smaller itself: no kernel blurs them before",
            next_step="leave out --kernels",
        )


def _tell_not_random(
    name: str, settings: PairSettings, kernels: Sequence[BlurKernel], reporter: Reporter
) -> None:
    """Warn of variants that are equal, and of temperatures that change nothing."""
    if settings.variants > 1 and not kernels:
        who = "without a degrader and kernels" if name == "none" else f"the degrader {name} is not random:"
        reporter.warn(f"{who} all variants of an image are equal")
    if settings.temperature != (1.0, 1.0) and name != "none":
        reporter.warn(
            f"the degrader {name} is not random: temperature {settings.temperature} changes nothing"
        )


def _plan_again(request: MakePairsRequest, path: Path, workers: int, reporter: Reporter) -> PairPlan:
    """The plan of a manifest, with its images, model, folders and kernels found and compared."""
    manifest, content = read_manifest(path, root_of(request.source))
    check_format(manifest.settings.format)
    if request.device != "auto" and request.device.partition(":")[0] != manifest.device:
        raise ConfigError(
            f"--device {request.device}, but {path} was made on {manifest.device}: the bits would differ",
            next_step="leave out --device",
        )
    if content["libraries"] != LIBRARIES:
        versions = ", ".join(f"{name} {version}" for name, version in content["libraries"].items())
        reporter.warn(f"{path} was made with {versions}: bits may differ")
    check_unchanged(request.source, manifest.sources.images, workers)
    kernels = _same_kernels(request.kernels, manifest)
    degrader = request.degrader.repeating(manifest.degrader)
    device = choose_device(request.device if request.device != "auto" else manifest.device)
    chosen = _prepare(degrader, manifest.sources, manifest.settings, device, reporter)
    degrader.check_repeated(chosen.facts, manifest.degrader)
    chosen = replace(chosen, facts=dict(manifest.degrader))
    return PairPlan(manifest, chosen, kernels, plan_pairs(manifest.sources, manifest.settings, kernels))


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
    sources: CleanImages,
    settings: PairSettings,
    device: torch.device,
    reporter: Reporter,
) -> ReadyDegrader:
    clean = [sources.path(index) for index in range(len(sources.images))]
    return degrader.prepare(DegraderContext(clean, settings.scale, settings.resize, device, reporter))


# -- after, or instead ------------------------------------------------------------------------------------


def _estimate(request: MakePairsRequest, plan: PairPlan, workers: int, reporter: Reporter) -> Estimate:
    """Time and disk space, estimated from a few images that are made and discarded."""
    places = np.unique(np.linspace(0, len(plan.images) - 1, TRIED).round().astype(int))
    reporter.start("trying", len(places))
    make = PairMaker(plan)
    pixels = size = 0
    with one_torch_thread():
        make(plan.images[0])  # the first call is slower, and not counted
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
    plan: PairPlan,
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
