"""What `deflow make-pairs` is asked for, and what it reports."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deflow_cli.config.shards import Shard
from deflow_cli.data.pairs.records import PairSlot
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import ConfigError
from deflow_cli.workflows.pairs.making import PairPlan
from deflow_cli.workflows.pairs.plan import PairSettings

ENGINES = ("local", "ray")
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class MakePairsRequest:
    """What `deflow make-pairs` was asked for.

    source: HR, a folder of clean images or one image. manifest: of a data set to make again; it replaces the
    settings and the degrader, apart from the places of model, folders and kernels. workers: threads (None: by
    cores and memory), which do not change the result. device: where a degrader runs that can use one.
    shard: the part to make, beside other processes that make the others; merge: to check what they made and
    make one data set of it. engine: ``ray`` has a running Ray cluster make the pairs; engine_device: the kind
    of its devices, where it is known.
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
    shard: Shard | None = None
    merge: bool = False
    engine: str = "local"
    engine_device: str = ""

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ConfigError(f"engine {self.engine!r} is unknown", next_step=f"use {' or '.join(ENGINES)}")
        by_ray = self.engine == "ray"
        ways = {"--shard": self.shard is not None, "--merge": self.merge, "--engine ray": by_ray}
        chosen = [name for name, given in ways.items() if given]
        others = {"--dry-run": self.dry_run, "--overwrite": self.overwrite and not by_ray}
        chosen += [name for name, given in others.items() if given and chosen]
        if len(chosen) > 1:
            first, second = chosen[:2]
            raise ConfigError(f"{first} and {second} do not go together", next_step="leave one of them out")


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
    others were there before. left_out, doubtful: (image, reason). estimate: of a dry run. shard: the part, of
    which the counts and sizes are.
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
    shard: str = ""


def report_of(
    request: MakePairsRequest,
    plan: PairPlan,
    slots: Sequence[PairSlot],
    written: int,
    workers: int,
    started: float,
    estimate: Estimate | None = None,
) -> MakePairsReport:
    """The report of the pairs that ``slots`` are, all of a plan or the part of a shard."""
    gt = sorted({slot.gt_size for slot in slots}, key=lambda size: (size[0] * size[1], size))
    lq = sorted({slot.lq_size for slot in slots}, key=lambda size: (size[0] * size[1], size))
    model = plan.chosen.model
    return MakePairsReport(
        request.target,
        plan.manifest.settings.format,
        dict(plan.chosen.facts),
        model.path if model else None,
        model.origin if model else "",
        len({slot.image for slot in slots}),
        len(slots),
        written,
        _ends(gt),
        _ends(lq),
        plan.sources.left_out,
        plan.sources.doubtful,
        workers,
        time.perf_counter() - started,
        estimate,
        "" if request.shard is None else str(request.shard),
    )


def _ends(sizes: Sequence[Size]) -> tuple[Size, Size]:
    """The smallest and the largest; a part of few images may have none."""
    return (sizes[0], sizes[-1]) if sizes else ((0, 0), (0, 0))
