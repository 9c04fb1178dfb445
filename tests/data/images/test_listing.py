"""Listing: each real file once, circles end, and what is left out is said."""

import os
import subprocess
from pathlib import Path

import pytest

from deflow_cli.data.images import listing
from deflow_cli.data.images.listing import list_images, name_some
from deflow_cli.data.images.remarks import remarks_to


def fill(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def listed(folder: Path, **options: bool) -> tuple[list[str], list[str]]:
    """Relative paths, and the remarks without the folder's name."""
    said: list[str] = []
    with remarks_to(said.append):
        found = [path.relative_to(folder).as_posix() for path in list_images(folder, **options)]
    return found, [text.removeprefix(f"{folder}: ") for text in said]


def test_circles_end_and_each_file_is_listed_once(tmp_path: Path) -> None:
    folder = fill(tmp_path / "D", "a.png", "sub/b.png")
    (folder / "self").symlink_to(".")
    (folder / "sub/up").symlink_to("..")
    assert listed(folder) == (["a.png", "sub/b.png"], [])
    for number in range(12):  # every folder links to every other: paths without end
        (folder / f"x{number}").mkdir()
        for other in range(12):
            (folder / f"x{number}/to{other}").symlink_to(f"../x{other}")
    assert listed(folder)[0] == ["a.png", "sub/b.png"]


def test_a_link_that_leads_outside_is_followed_once(tmp_path: Path) -> None:
    outside = fill(tmp_path / "outside", "x.png", "deep/y.png")
    folder = fill(tmp_path / "D", "a.png")
    for name in ("first", "second", "z/third"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(outside)
    (folder / "0deep").symlink_to(outside / "deep")
    assert listed(folder) == (["0deep/y.png", "a.png", "first/x.png"], [])
    (folder / "loop").symlink_to(folder / "loop")
    assert "links that lead to nothing (1): loop" in listed(folder)[1]


def test_a_link_upward_does_not_take_in_the_neighbours(tmp_path: Path) -> None:
    fill(tmp_path / "noisy", "n.png")
    folder = fill(tmp_path / "clean", "a.png")
    (folder / "up").symlink_to("..")
    assert listed(folder) == (["a.png"], ["links to a folder that contains it are not followed: up"])


def test_paths_without_links_are_preferred(tmp_path: Path) -> None:
    folder = fill(tmp_path / "D", "z/real.png", "more.png")
    (folder / "a").symlink_to("z")
    (folder / "b.png").symlink_to("z/real.png")
    os.link(folder / "more.png", folder / "same.png")
    found, said = listed(folder)
    assert found == ["more.png", "z/real.png"]
    assert said == ["left out, further names of files that are used already (2): same.png, b.png"]
    found, said = listed(folder, aliases=True)  # names matter where they are matched
    assert found == ["b.png", "more.png", "same.png", "z/real.png"]
    assert said == []


def test_what_is_left_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path / "D", "a.png", "b.CR2", "c.nef", "d.psd", "notes.txt", ".hidden.heic")
    (folder / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "pipe.png")
    found, said = listed(folder)
    assert found == ["a.png"]
    assert said == [
        "links that lead to nothing (1): gone.png",
        "left out, not regular files: pipe.png",
        "pictures of formats that are not read were left alone:"
        " 1 PSD (export them as PNG or TIFF), 2 RAW (develop them to TIFF or PNG)",
    ]
    scandir = os.scandir

    def refuse(path: Path):  # type: ignore[no-untyped-def]
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    fill(folder, "closed/x.png")
    monkeypatch.setattr(listing.os, "scandir", refuse)
    assert f"{folder}/closed: left out, it cannot be opened (Permission denied)" in listed(folder)[1]


def test_a_hundred_thousand_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a fake folder: what a listing costs must not grow faster than its entries."""

    class Entry:
        def __init__(self, number: int) -> None:
            self.name = f"{number:06d}.png"
            self.path = str(tmp_path / self.name)

        def is_symlink(self) -> bool:
            return False

        def is_dir(self, *, follow_symlinks: bool) -> bool:
            return False

    (tmp_path / "one").touch()
    stated = os.stat(tmp_path / "one")
    monkeypatch.setattr(listing.os, "scandir", lambda folder: map(Entry, range(100_000)))
    numbers = iter(range(1, 200_002))
    monkeypatch.setattr(listing, "_identity", lambda status: (1, next(numbers)))
    monkeypatch.setattr(Path, "stat", lambda self, **options: stated if self != tmp_path else os.stat(self))
    assert len(list_images(tmp_path)) == 100_000


def test_names_of_many() -> None:
    assert name_some("abcde") == "a, b, c and 2 more"
    assert name_some("ab") == "a, b"


def test_listing_has_no_traceback_of_deep_trees(tmp_path: Path) -> None:
    subprocess.run(
        ["bash", "-c", "for i in $(seq 300); do mkdir d && cd d; done; touch a.png"], cwd=tmp_path, check=True
    )
    assert len(list_images(tmp_path)) == 1
