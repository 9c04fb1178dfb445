"""Parts: a data set made by several processes, each of some of its units, by one plan in its folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deflow_cli.data.pairs.checksums import digest_of
from deflow_cli.data.pairs.formats import MANIFEST, UNFINISHED, files_of_unit, make_writer, unit_numbers
from deflow_cli.data.pairs.records import PairSlot
from deflow_cli.runtime.folder_lock import FolderInUseError
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.pairs import target as folder
from deflow_cli.workflows.pairs.making import PairMaker, PairPlan
from deflow_cli.workflows.pairs.plan import PlannedImage
from deflow_cli.workflows.pairs.planning import new_plan, plan_of_target
from deflow_cli.workflows.pairs.request import MakePairsRequest
from deflow_cli.workflows.pairs.sources import in_order

POLL = 0.5  # seconds between looks for a plan that another process makes


class Counted:
    """Adds up what is told, and reports it as progress."""

    def __init__(self, reporter: Reporter, title: str, total: int) -> None:
        self._reporter, self._count = reporter, 0
        reporter.start(title, total)

    def __call__(self, more: int) -> None:
        self._count += more
        self._reporter.update(self._count)


def plan_file(request: MakePairsRequest) -> Path | None:
    """The manifest of the data set in the folder, unfinished or complete; None where there is none."""
    files = (request.target / name for name in (UNFINISHED, MANIFEST))
    return next((path for path in files if path.is_file()), None)


def shared_plan(request: MakePairsRequest, workers: int, reporter: Reporter) -> PairPlan:
    """The plan that all parts of a data set have in common.

    It is in the data set's folder; else the first process to come looks at the images and writes it there,
    while the others wait. Raises DataError where what is there was made otherwise.
    """
    told = False
    while (path := plan_file(request)) is None:
        try:
            with folder.alone(request.target, reporter):
                if plan_file(request) is None:
                    plan = new_plan(request, workers, reporter)
                    folder.prepare(request.target, plan.manifest, overwrite=False)
                    folder.begin(request.target, plan.manifest)
                    return plan
        except FolderInUseError:
            if not told:
                reporter.note("another process looks at the images, and plans for all: waiting for it")
                told = True
            time.sleep(POLL)
    return plan_of_target(request, path, reporter)


class PartMaker:
    """Makes units of a data set, the least that can be made apart: an image with its pairs, or a tar file.

    workers: threads. Several processes may make different units at the same time.
    """

    def __init__(self, plan: PairPlan, request: MakePairsRequest, workers: int) -> None:
        self.plan, self.target, self.workers = plan, request.target, workers
        self._kind, slots = plan.manifest.settings.format, plan.slots
        self.unit_of = dict(zip((slot.key for slot in slots), unit_numbers(self._kind, slots), strict=True))
        self._images: dict[int, list[PlannedImage]] = {}
        for planned in plan.images:
            self._images.setdefault(self.unit_of[planned.slots[0].key], []).append(planned)
        self._writer = make_writer(self._kind, self.target, slots)

    @property
    def units(self) -> range:
        return range(len(self._images))

    def slots(self, units: Sequence[int]) -> list[PairSlot]:
        return [slot for unit in units for planned in self._images[unit] for slot in planned.slots]

    def make(self, units: Sequence[int], told: Callable[[int], None] = lambda pairs: None) -> int:
        """Make what is missing of some units; returns how many pairs that was. told: of all."""
        slots = self.slots(units)
        missing = self._writer.missing({slot.key for slot in slots})
        told(len(slots) - len(missing))
        images = (planned for unit in units for planned in self._images[unit])
        todo = [planned for planned in images if planned.lacks(missing)]
        for pairs in in_order(PairMaker(self.plan, missing, checks_contents=True), todo, self.workers):
            self._writer.write(pairs)
            told(len(pairs))
        return len(missing)

    def digests(self, units: Sequence[int]) -> dict[str, str]:
        """SHA-256 by name of the files that hold some units."""
        names = [name for unit in units for name in files_of_unit(self._kind, unit, self.slots([unit]))]
        digests = in_order(lambda name: digest_of(self.target / name), names, self.workers)
        return dict(zip(names, digests, strict=True))

    def close(self) -> None:
        self._writer.close()
