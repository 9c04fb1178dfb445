"""Make pairs: a data set of clean and degraded images, which its manifest can reproduce."""

from __future__ import annotations

import shutil
import time

import numpy as np

from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.data.pairs.formats import make_writer
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import DataError
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.pairs import target as folder
from deflow_cli.workflows.pairs.making import PairMaker, PairPlan, automatic_workers, one_torch_thread
from deflow_cli.workflows.pairs.parts import Counted, PartMaker
from deflow_cli.workflows.pairs.plan import PairSettings, PlannedImage
from deflow_cli.workflows.pairs.planning import new_plan
from deflow_cli.workflows.pairs.ray_engine import connect
from deflow_cli.workflows.pairs.request import Estimate, MakePairsReport, MakePairsRequest, report_of
from deflow_cli.workflows.pairs.shards import make_shard, merge_shards, no_shard
from deflow_cli.workflows.pairs.sources import in_order

__all__ = [
    "DegraderChoice",
    "Estimate",
    "MakePairsReport",
    "MakePairsRequest",
    "PairSettings",
    "make_pairs",
]

TRIED = 3  # images made for an estimate


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
    if request.shard is not None:
        return make_shard(request, request.shard, workers, reporter)
    if request.merge:
        return merge_shards(request, workers, reporter)
    cluster = connect() if request.engine == "ray" else None
    if cluster is not None:
        request = cluster.asked(request)
    plan = new_plan(request, workers, reporter)
    if request.dry_run:
        if request.target.exists():
            folder.check(request.target, plan.manifest, request.overwrite)
        estimate = _estimate(request, plan, workers, reporter)
        return report_of(request, plan, plan.slots, 0, workers, started, estimate)
    target, slots = request.target, plan.slots
    with folder.alone(target, reporter), no_shard(target, reporter), one_torch_thread():
        done = folder.prepare(target, plan.manifest, request.overwrite)
        if done:
            damaged = folder.damaged_files(target, plan.manifest, slots, workers, reporter)
            if damaged == []:
                reporter.note(f"{target}: complete already")
                return report_of(request, plan, slots, 0, workers, started)
            if damaged:
                folder.remove_damaged(target, plan.manifest, damaged, reporter)
        folder.begin(target, plan.manifest)  # before the writer makes folders, which nobody could place
        writer = make_writer(plan.manifest.settings.format, target, slots)
        try:
            missing = writer.missing()
            if missing and len(missing) < len(slots):
                reporter.note(
                    f"{target}: {len(slots) - len(missing)} of {len(slots)} pairs are there; going on"
                )
            told = Counted(reporter, "making pairs", len(slots))
            told(len(slots) - len(missing))
            if cluster is not None:
                cluster.make(request, PartMaker(plan, request, workers), missing, told)
                if lost := writer.missing():
                    raise DataError(
                        f"{target}: {len(lost)} pairs are not there, which the cluster has made",
                        next_step="pass an OUT that all machines of the cluster share",
                    )
            else:
                todo = [planned for planned in plan.images if planned.lacks(missing)]
                for pairs in in_order(PairMaker(plan, missing), todo, workers):
                    writer.write(pairs)
                    told(len(pairs))
            reporter.finish()
            writer.finish()
        finally:
            writer.close()
        folder.complete(target, plan.manifest, slots, workers, reporter)
    return report_of(request, plan, slots, len(missing), workers, started)


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
