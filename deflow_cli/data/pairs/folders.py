"""Pairs in folders: flat gt/ and lq/ with identical names, the one layout that every trainer reads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from deflow_cli.data.contents import FileSpan, whole_file
from deflow_cli.data.images.listing import list_images
from deflow_cli.data.pairs.records import (
    SIDES,
    STAGING,
    EncodedPair,
    Pairs,
    PairSlot,
    is_whole_png_file,
    store,
)
from deflow_cli.data.reference_matching import scaled_partners
from deflow_cli.errors import DataError


class FolderWriter:
    """Writes gt/KEY.png and lq/KEY.png; a file that is there and whole is left alone."""

    def __init__(self, target: Path, slots: Sequence[PairSlot]) -> None:
        self._target = target
        self._slots = {slot.key: slot for slot in slots}
        self._staging = target / STAGING
        for name in (*SIDES, STAGING):
            (target / name).mkdir(parents=True, exist_ok=True)

    def missing(self, keys: Collection[str] | None = None) -> set[str]:
        return {
            slot.key
            for slot in (self._slots.values() if keys is None else map(self._slots.__getitem__, keys))
            if not all(
                is_whole_png_file(self.path(slot.key, side), size) for side, size in slot.sizes.items()
            )
        }

    def path(self, key: str, side: str) -> Path:
        """Where a pair's file lies."""
        return self._target / side / f"{key}.png"

    def write(self, pairs: Sequence[EncodedPair]) -> None:
        for pair in pairs:
            for side, content in zip(SIDES, (pair.gt, pair.lq), strict=True):
                store(self.path(pair.slot.key, side), content, self._staging)

    def finish(self) -> None:
        return

    def close(self) -> None:
        return


class FolderPairs(Pairs):
    """Pairs of gt/ and lq/: the same file names on both sides, or DIV2K's (0001.png and 0001x4.png)."""

    def __init__(self, path: Path) -> None:
        gt, lq = (
            {file.relative_to(path / side).as_posix() for file in list_images(path / side, aliases=True)}
            for side in SIDES
        )
        gt_of = names_without_scale(lq, gt)
        lq_of = {gt_of.get(name, name): name for name in lq}
        lonely = sorted(gt ^ lq_of.keys())
        if lonely:
            there, other = SIDES if lonely[0] in gt else SIDES[::-1]
            raise DataError(
                f"{path / there / lonely[0]}: has no partner of the same name in {other}/",
                next_step="add it or remove this file",
            )
        self._names = [(name, lq_of[name]) for name in sorted(gt)]
        super().__init__(path, [Path(name).with_suffix("").as_posix() for name, _ in self._names])

    def spans(self, index: int) -> tuple[FileSpan, FileSpan]:
        gt, lq = (
            whole_file(self.path / side / name) for side, name in zip(SIDES, self._names[index], strict=True)
        )
        return gt, lq


def names_without_scale(names: Collection[str], partners: Collection[str]) -> dict[str, str]:
    """Of names without a partner, those that have one but for a scale at the end of their stems."""

    def stems(files: Collection[str], suffix: str) -> set[str]:
        return {name.removesuffix(suffix) for name in files if PurePosixPath(name).suffix == suffix}

    return {
        stem + suffix: partner + suffix
        for suffix in {PurePosixPath(name).suffix for name in names}
        for stem, partner in scaled_partners(stems(names, suffix), stems(partners, suffix)).items()
    }
