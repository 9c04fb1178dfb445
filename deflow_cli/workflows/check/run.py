"""Check: what would spoil a training on pairs, found before it begins."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deflow_cli.data.images.listing import list_images, name_some
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.data.pairs.folders import names_without_scale
from deflow_cli.data.pairs.formats import open_pairs
from deflow_cli.data.pairs.records import SIDES, Pairs
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.check.findings import (
    Alignment,
    PairFinding,
    common_scale,
    find_alignment,
    find_broken,
    find_clean,
    find_copies_of_pairs,
    find_leaks,
    find_sizes,
)
from deflow_cli.workflows.check.looks import PairLook, look_at

SAMPLE = 200  # pairs whose alignment and content are compared, unless asked for otherwise


@dataclass(frozen=True)
class CheckRequest:
    """What `deflow check` was asked for. val: for validation. scale: expected; None: that of most pairs.

    gt_size: crop of the training, 0 for none. sample: pairs that are looked at closely, 0 for all. Raises
    ConfigError for numbers that can be none of these.
    """

    pairs: Path
    val: Path | None = None
    scale: int | None = None
    gt_size: int = 0
    sample: int = SAMPLE

    def __post_init__(self) -> None:
        for name, least in (("scale", 1), ("gt_size", 0), ("sample", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} is {value}", next_step=f"use {least} or more")


@dataclass(frozen=True)
class CheckReport:
    """What was found. pairs: how many; val_pairs: of the validation data, None without. scale: of most pairs.

    sizes: smallest and largest gt, by area. alignment: None where nothing could be measured.
    """

    source: Path
    pairs: int
    val_pairs: int | None
    scale: int | None
    sizes: tuple[tuple[int, int], tuple[int, int]] | None
    alignment: Alignment | None
    findings: tuple[PairFinding, ...]

    @property
    def spoils(self) -> bool:
        """Whether a training would suffer."""
        return any(finding.spoils for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "spoils": self.spoils}


@hears_remarks
def check_pairs(request: CheckRequest, reporter: Reporter) -> CheckReport:
    """Look at every pair once. Raises DataError where there is no data set at all."""
    pairs, findings = _opened(request.pairs)
    val: Pairs | None = None
    if request.val is not None:
        val, more = _opened(request.val)
        findings += more
    looks = _looked(pairs, request.sample, reporter) if pairs is not None else []
    held = _looked(val, request.sample, reporter) if val is not None else []
    scale = request.scale or common_scale(looks)
    alignment, misaligned = find_alignment(looks, scale)
    findings += [*find_broken(looks), *find_sizes(looks, scale, request.gt_size), *misaligned]
    findings += [*find_copies_of_pairs(looks), *find_clean(looks)]
    if val is not None:
        of_val_scale = scale or common_scale(held)
        of_val = [*find_broken(held), *find_sizes(held, of_val_scale, 0)]
        of_val += find_alignment(held, of_val_scale)[1]
        findings += [dataclasses.replace(one, message=f"validation: {one.message}") for one in of_val]
        findings += find_leaks(looks, held)
    sizes = sorted((look.sizes[0] for look in looks if not look.reason), key=lambda size: size[0] * size[1])
    return CheckReport(
        request.pairs,
        len(looks),
        None if request.val is None else len(held),
        scale,
        (sizes[0], sizes[-1]) if sizes else None,
        alignment,
        tuple(sorted(findings, key=lambda one: not one.spoils)),
    )


def _opened(path: Path) -> tuple[Pairs | None, list[PairFinding]]:
    """The pairs, or why they cannot be opened; of folders, all files without a partner."""
    if not path.is_dir():
        open_pairs(path)  # raises with the reason
    lonely = _lonely(path)
    if lonely:
        what = f"{path}: {len(lonely)} files have no partner on the other side: {name_some(lonely)}"
        step = "add what is missing, or remove these files; nothing else was checked there"
        if len({Path(name).with_suffix("").name for name in lonely}) < len(lonely):
            step = (
                "give partners one name, suffix and all (PNG on both sides); nothing else was checked there"
            )
        return None, [PairFinding("names", what, tuple(lonely), step)]
    try:
        return open_pairs(path), []
    except DataError as error:
        return None, [PairFinding("unreadable", str(error), (), error.next_step)]


def _lonely(path: Path) -> list[str]:
    """Files of gt/ and lq/ without a partner of the same name, a scale at the end of its stem aside."""
    if not all((path / side).is_dir() for side in SIDES):
        return []
    gt, lq = (
        {file.relative_to(path / side).as_posix() for file in list_images(path / side, aliases=True)}
        for side in SIDES
    )
    gt_of = names_without_scale(lq, gt)
    lq_of = {gt_of.get(name, name): name for name in lq}
    alone = [f"gt/{name}" for name in gt - lq_of.keys()]
    return sorted([*alone, *(f"lq/{lq_of[name]}" for name in lq_of.keys() - gt)])


def _looked(pairs: Pairs, sample: int, reporter: Reporter) -> list[PairLook]:
    """Every pair; of those looked at closely, as many as asked for, evenly spread."""
    step = 1 if sample == 0 else -(-len(pairs) // sample)
    looks: list[PairLook] = []
    reporter.start(f"{pairs.path.name}: pairs", len(pairs))
    for look in look_at(pairs, frozenset(range(0, len(pairs), step))):
        looks.append(look)
        reporter.update(len(looks))
    reporter.finish()
    return looks
