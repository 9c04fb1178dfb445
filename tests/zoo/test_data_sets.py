"""Data sets half written: every file of every format cut, flipped, emptied or lost."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.data.pairs.formats import FORMATS, MANIFEST, SUMS, UNFINISHED, PairFormat, open_pairs
from deflow_cli.errors import DataError
from tests.workflows.pairs.asking import NONE, ask, files
from tests.zoo.animals import picture
from tests.zoo.pngs import png_of


def cut(share: float) -> Callable[[bytes], bytes | None]:
    return lambda data: data[: int(share * len(data))]


def flipped(share: float) -> Callable[[bytes], bytes | None]:
    def flip(data: bytes) -> bytes:
        at = min(int(share * len(data)), len(data) - 1)
        return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]

    return flip


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "lost": lambda data: None,
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    **{f"cut at {share:.0%}": cut(share) for share in (0.1, 0.5, 0.9, 0.99)},
    **{f"a byte at {share:.0%} flipped": flipped(share) for share in (0.0, 0.3, 0.6, 1.0)},
}
STORED: dict[PairFormat, tuple[str, ...]] = {
    "folders": ("gt/0000001.png", "lq/0000002.png"),
    "lmdb": ("gt.lmdb/data.mdb", "lq.lmdb/data.mdb"),
    "webdataset": ("000000.tar",),
}
CASES = [(kind, name, damage) for kind in FORMATS for name in STORED[kind] for damage in DAMAGE]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[PairFormat], tuple[Path, Path]]:
    """The clean images, and a complete data set of each format."""
    root = tmp_path_factory.mktemp("sets")
    (root / "hr").mkdir()
    for number in range(3):
        (root / f"hr/{number}.png").write_bytes(png_of(picture(3, height=48, width=64, seed=number)))

    @functools.cache
    def make(kind: PairFormat) -> tuple[Path, Path]:
        ask(root / "hr", root / kind, choice=NONE, format=kind)
        return root / "hr", root / kind

    return make


@pytest.mark.parametrize(("kind", "name", "damage"), CASES, ids=[" ".join(case) for case in CASES])
def test_pairs_are_right_or_the_damaged_file_is_named_and_made_anew(
    made: Callable[[PairFormat], tuple[Path, Path]], tmp_path: Path, kind: PairFormat, name: str, damage: str
) -> None:
    hr, whole = made(kind)
    target = tmp_path / "set"
    shutil.copytree(whole, target)
    right = [(key, gt.copy(), lq.copy()) for key, gt, lq in open_pairs(whole)]
    broken = DAMAGE[damage]((target / name).read_bytes())
    (target / name).unlink() if broken is None else (target / name).write_bytes(broken)
    found = refusal = None
    try:
        found = list(open_pairs(target))
    except DataError as error:
        refusal = str(error)
    if found is None:
        assert str(target) in str(refusal)
    else:
        if damage == "lost":
            assert found == []
        # without checksums of their own (LMDB) a flipped byte of pixels is left to those of PNG
        assert [key for key, _, _ in found] == [key for key, _, _ in right]
        for ours, theirs in zip(found, right, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(ours[1:], theirs[1:], strict=True))
    ask(hr, target, choice=NONE, format=kind)
    assert files(target) == files(whole)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_unfinished_set_is_refused_and_then_finished(
    made: Callable[[PairFormat], tuple[Path, Path]], tmp_path: Path, kind: PairFormat
) -> None:
    hr, whole = made(kind)
    target = tmp_path / "set"
    shutil.copytree(whole, target)
    (target / SUMS).unlink()
    (target / MANIFEST).rename(target / UNFINISHED)
    with pytest.raises(DataError, match="has not finished it"):
        open_pairs(target)
    ask(hr, target, choice=NONE, format=kind)
    assert files(target) == files(whole)
