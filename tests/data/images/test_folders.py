"""Scanning folders: sizes, small and broken files, domains that cannot be unpaired."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.data.images.files import Image, write_image
from deflow_cli.data.images.folders import check_domains, find_copies, fingerprint, name_copies, scan_folder
from deflow_cli.errors import DataError


def scene(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)[:height, :width]


def fill(folder: Path, seeds: range, *, noise: float = 0, suffix: str = ".png", height: int = 40) -> Path:
    for seed in seeds:
        pixels = scene(seed, height)
        noisy = pixels + noise * np.random.default_rng(seed).standard_normal(pixels.shape)
        write_image(folder / f"{seed % 100:02d}{suffix}", Image(np.clip(noisy, 0, 255).astype(np.uint8)))
    return folder


def test_scan_sorts_counts_and_names(tmp_path: Path) -> None:
    folder = fill(tmp_path, range(3), suffix=".jpg")
    write_image(folder / "small.png", Image(scene(1, 16, 80)))
    fill(folder / "sub", range(2))
    for name in ("00.jpg", "sub/00.png"):  # cut off, with a header that is whole
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) * 3 // 4])
    data = (folder / "01.jpg").read_bytes()
    (folder / "01.jpg").write_bytes(data + bytes(5000))  # bytes behind the end are harmless
    (folder / "text.png").write_text("no image")
    scan = scan_folder(folder, 32)
    assert [scan.key(path) for path in scan.paths] == ["01.jpg", "02.jpg", "sub/01.png"]
    assert scan.sizes == ((56, 40),) * 3
    assert [path.name for path in scan.too_small] == ["small.png"]
    assert [(scan.key(path), "truncated" in reason) for path, reason in scan.broken] == [
        ("00.jpg", True), ("sub/00.png", True), ("text.png", False)
    ]  # fmt: skip
    assert "known format" in scan.broken[2][1]


def test_nothing_usable_says_why_and_what_next(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        scan_folder(tmp_path / "none", 8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        scan_folder(tmp_path / "empty", 8)
    folder = fill(tmp_path / "small", range(4))
    (folder / "x.png").write_text("junk")
    with pytest.raises(
        DataError, match=r"none of its 5 .* 4 smaller than 160 px \(the largest is 56x40\), 1 broken"
    ) as info:
        scan_folder(folder, 160)
    assert info.value.next_step.startswith("pass --set fit.patch_size=40 ")
    assert len(scan_folder(folder, 40).paths) == 4
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.png").touch()
    with pytest.raises(DataError, match=r"1 broken \(first: a\.png: .*empty"):
        scan_folder(tmp_path / "broken", 8)


def test_same_files_are_refused(tmp_path: Path) -> None:
    clean = scan_folder(fill(tmp_path / "clean", range(4)), 8)
    with pytest.raises(DataError, match="same folder"):
        check_domains(clean, clean)
    (tmp_path / "link").symlink_to(tmp_path / "clean")
    with pytest.raises(DataError, match="same folder"):
        check_domains(clean, scan_folder(tmp_path / "link", 8))
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in clean.paths[:2]:
        shutil.copy(path, copy / f"renamed_{path.name}")
    with pytest.raises(DataError, match=r"same files: renamed_00\.png, renamed_01\.png"):
        check_domains(clean, scan_folder(copy, 8))
    fill(copy, range(50, 53))
    with pytest.raises(DataError, match="same files"):  # the smaller side is the clean one
        check_domains(scan_folder(copy, 8), scan_folder(fill(tmp_path, range(0)), 8))
    assert check_domains(clean, scan_folder(copy, 8)) == (
        "2 files are in both folders: renamed_00.png, renamed_01.png",
    )


def test_pairs_only_are_refused_but_equal_names_are_not(tmp_path: Path) -> None:
    clean = scan_folder(fill(tmp_path / "clean", range(10)), 8)
    pairs = scan_folder(fill(tmp_path / "pairs", range(10), noise=20, suffix=".tif"), 8)
    with pytest.raises(DataError, match="pairs only: all 10") as info:
        check_domains(clean, pairs)
    assert "--pairs DIR" in info.value.next_step
    noisy = scan_folder(fill(tmp_path / "noisy", range(10), noise=20), 8)
    with pytest.raises(DataError, match="pairs only") as info:
        check_domains(clean, noisy)
    assert f"--pairs {tmp_path} " in info.value.next_step
    assert check_domains(clean, pairs, allow_pairs=True) == ()
    others = scan_folder(fill(tmp_path / "others", range(100, 110), noise=20), 8)
    assert {p.name for p in others.paths} == {p.name for p in clean.paths}
    assert check_domains(clean, others) == ()


def test_fingerprint_names_the_content(tmp_path: Path) -> None:
    scan = scan_folder(fill(tmp_path / "a", range(3)), 8)
    assert len(fingerprint(scan)) == 16
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert fingerprint(scan_folder(tmp_path / "b", 8)) == fingerprint(scan)
    (tmp_path / "b/00.png").rename(tmp_path / "b/77.png")
    assert fingerprint(scan_folder(tmp_path / "b", 8)) != fingerprint(scan)


def test_copies_are_found_by_content(tmp_path: Path) -> None:
    folder = fill(tmp_path, range(4))
    for name, source in (("z.png", "01.png"), ("sub/y.png", "01.png"), ("x.png", "02.png")):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / source, folder / name)
    same_ends = bytearray((folder / "03.png").read_bytes() + b"tail" * 50_000)
    (folder / "u.png").write_bytes(same_ends)
    same_ends[100_000] ^= 1
    (folder / "v.png").write_bytes(same_ends)
    scan = scan_folder(folder, 8)
    copies = find_copies(scan)
    assert {scan.key(path): scan.key(first) for path, first in copies.items()} == {
        "sub/y.png": "01.png", "z.png": "01.png", "x.png": "02.png"
    }  # fmt: skip
    assert name_copies(copies).startswith("copies of other files (3): ")


def test_a_link_inside_a_folder_adds_nothing(tmp_path: Path) -> None:
    folder = fill(tmp_path / "noisy", range(4))
    before = scan_folder(folder, 8)
    (folder / "again").symlink_to(".")
    (folder / "twin.png").symlink_to("01.png")
    assert scan_folder(folder, 8) == before


def test_names_that_are_not_utf8_are_fingerprinted(tmp_path: Path) -> None:
    folder = fill(tmp_path, range(2))
    before = fingerprint(scan_folder(folder, 8))
    os.rename(os.fsencode(folder / "00.png"), os.fsencode(folder) + b"/caf\xe9.png")
    assert fingerprint(scan_folder(folder, 8)) != before
