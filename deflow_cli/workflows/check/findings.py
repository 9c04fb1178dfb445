"""Findings: what is wrong with a data set of pairs, by what was seen of each pair."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from deflow_cli.data.images.listing import name_some
from deflow_cli.workflows.check.looks import SURE, PairLook

SHIFTED = 0.2  # pixels of lq by which a whole set may be displaced; taking every fourth pixel gives 0.375
MISPLACED = 1.0  # pixels of lq by which a single pair may differ from the others
ALIKE = 0.5  # correlation of the thumbnails of two pictures of one scene
SAME_DETAIL = 0.9  # correlation of details by which two pictures are one


@dataclass(frozen=True)
class PairFinding:
    """What is wrong. spoils: whether a training would suffer. keys: of the pairs. next_step: what to do."""

    kind: str
    message: str
    keys: tuple[str, ...]
    next_step: str
    spoils: bool = True


@dataclass(frozen=True)
class Alignment:
    """Median displacement of lq against gt, in pixels of lq; of ``looked`` pairs ``measured`` could tell."""

    right: float
    down: float
    measured: int
    looked: int


def _finding(
    kind: str,
    what: str,
    keys: Sequence[str],
    next_step: str,
    *,
    names: Iterable[str] = (),
    spoils: bool = True,
) -> PairFinding:
    named = name_some(names or keys)
    return PairFinding(kind, f"{what}: {named}" if named else what, tuple(keys), next_step, spoils)


def find_broken(looks: Sequence[PairLook]) -> list[PairFinding]:
    """Pairs that cannot be read."""
    broken = [look for look in looks if look.reason]
    if not broken:
        return []
    what = f"{len(broken)} of {len(looks)} pairs cannot be read"
    keys = [look.key for look in broken]
    return [_finding("unreadable", what, keys, "remove or copy them again", names=[b.reason for b in broken])]


def common_scale(looks: Sequence[PairLook]) -> int | None:
    """The scale of most pairs; None where no pair has a whole one."""
    scales = Counter(look.scale for look in looks if look.scale is not None and not look.reason)
    return scales.most_common(1)[0][0] if scales else None


def find_sizes(looks: Sequence[PairLook], scale: int | None, gt_size: int) -> list[PairFinding]:
    """Pairs of another scale than ``scale``, and those smaller than a training's crop."""
    readable = [look for look in looks if not look.reason]
    other = [look for look in readable if scale is None or look.scale != scale]
    found = []
    if other:
        sizes = [f"{look.key} (gt {_words(look.sizes[0])}, lq {_words(look.sizes[1])})" for look in other]
        what = f"{len(other)} of {len(readable)} pairs are not x{scale}"
        if scale is None:
            what = f"gt is no whole multiple of lq in any of {len(other)} pairs"
        step = "crop gt to a multiple of lq, or remove these pairs"
        found.append(_finding("scale", what, [look.key for look in other], step, names=sizes))
    small = [look for look in readable if min(look.sizes[0]) < gt_size]
    if small:
        sizes = [f"{look.key} ({_words(look.sizes[0])})" for look in small]
        what = f"{len(small)} of {len(readable)} gt are smaller than the crop of {gt_size} px"
        step = "pass --set sr.gt_size=N with a smaller N to the training, or remove these pairs"
        found.append(_finding("size", what, [look.key for look in small], step, names=sizes))
    return found


def find_alignment(
    looks: Sequence[PairLook], scale: int | None
) -> tuple[Alignment | None, list[PairFinding]]:
    """The displacement of the whole set, and pairs that are displaced or show something else."""
    looked = [look for look in looks if look.shift is not None]
    strange = [look for look in looked if look.likeness is not None and look.likeness < ALIKE]
    found = []
    if strange:
        what = f"lq shows something else than gt in {len(strange)} of {len(looked)} pairs"
        names = [f"{look.key} (correlation {look.likeness:.2f})" for look in strange]
        step = "pair them anew: names of the two sides do not belong together"
        found.append(_finding("content", what, [look.key for look in strange], step, names=names))
    apart = {look.key for look in strange}
    sure = [
        (look.key, look.shift)
        for look in looked
        if look.shift is not None and look.shift.confidence >= SURE and look.key not in apart
    ]
    if not sure or scale is None:
        return None, found
    right, down = np.median([(shift.right, shift.down) for _, shift in sure], axis=0)
    if np.hypot(right, down) > SHIFTED:
        what = (
            f"lq is displaced against gt by {right:+.2f} px to the right and {down:+.2f} px down, in the"
            f" median of {len(sure)} pairs ({scale * right:+.1f} and {scale * down:+.1f} px of gt)"
        )
        step = (
            "make lq by a resize that keeps the centre (`deflow make-pairs`), not by taking every n-th"
            " pixel; a restorer would learn the displacement"
        )
        found.append(PairFinding("displaced", what, (), step))
    far = [(key, s) for key, s in sure if np.hypot(s.right - right, s.down - down) > MISPLACED]
    if far:
        what = f"{len(far)} of {len(sure)} pairs are displaced by more than {MISPLACED:g} px of lq"
        names = [f"{key} ({s.right:+.1f}, {s.down:+.1f})" for key, s in far]
        step = "align them, or remove them"
        found.append(_finding("misaligned", what, [key for key, _ in far], step, names=names))
    return Alignment(float(right), float(down), len(sure), len(looked)), found


def find_clean(looks: Sequence[PairLook]) -> list[PairFinding]:
    """Pairs whose lq has no degradation but the reduction."""
    looked = [look for look in looks if look.shift is not None]
    clean = [look.key for look in looked if look.is_clean]
    if not clean:
        return []
    what = f"lq is the bicubic reduction of gt, without degradation, in {len(clean)} of {len(looked)} pairs"
    step = "nothing, if that is meant; otherwise degrade them by `deflow make-pairs`"
    return [_finding("clean", what, clean, step, spoils=False)]


def find_copies_of_pairs(looks: Sequence[PairLook]) -> list[PairFinding]:
    """Pairs that are there twice, byte for byte on both sides; one gt with several lq is a variant."""
    copies = _repeated(looks, lambda look: look.digests)
    if not copies:
        return []
    what = f"{len(copies)} of {len(looks)} pairs are copies of other pairs"
    names = [f"{key} (of {first})" for key, first in copies.items()]
    step = "remove the copies, which weigh their pictures more than once"
    return [_finding("copies", what, list(copies), step, names=names, spoils=False)]


def find_leaks(train: Sequence[PairLook], held: Sequence[PairLook]) -> list[PairFinding]:
    """Pictures that are in the training and in the validation data: the same bytes, or the same content."""
    known = {look.digests[0]: look.key for look in train if not look.reason}
    same = {look.key: known[look.digests[0]] for look in held if look.digests[0] in known and not look.reason}
    step = "remove them from one of the two: scores on known pictures choose the wrong weights"
    found = []
    if same:
        what = f"{len(same)} of {len(held)} validation pictures are in the training data too"
        names = [f"{key} (as {other})" for key, other in same.items()]
        found.append(_finding("leak", what, list(same), step, names=names))
    alike = {key: other for key, other in _alike(train, held).items() if key not in same}
    if alike:
        what = f"{len(alike)} of {len(held)} validation pictures look like pictures of the training data"
        names = [f"{key} (like {other})" for key, other in alike.items()]
        found.append(_finding("leak", what, list(alike), step, names=names))
    return found


def _alike(train: Sequence[PairLook], held: Sequence[PairLook]) -> dict[str, str]:
    """For pictures of ``held``, one of ``train`` with the same detail."""
    details = [(look.key, look.detail) for look in train if look.detail is not None]
    if not details:
        return {}
    table = np.stack([detail for _, detail in details])
    found = {}
    for look in held:
        if look.detail is not None:
            correlations = table @ look.detail
            best = int(correlations.argmax())
            if correlations[best] > SAME_DETAIL:
                found[look.key] = details[best][0]
    return found


def _repeated(looks: Sequence[PairLook], of: Callable[[PairLook], tuple[str, str]]) -> dict[str, str]:
    """Keys of pairs that repeat an earlier one, and of which."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for look in looks:
        if not look.reason:
            groups[of(look)].append(look.key)
    return {key: group[0] for group in groups.values() for key in group[1:]}


def _words(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
