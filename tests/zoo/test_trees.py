"""Trees: links, circles, closed folders and hundreds of thousands of entries, through every command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deflow_cli.checkpoints.format import save_model
from deflow_cli.data.images import listing
from deflow_cli.data.images.folders import scan_folder
from deflow_cli.data.images.listing import list_images
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import DataError
from deflow_cli.metrics.options import ScorerOptions
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.degrade import DegradeRequest, degrade
from deflow_cli.workflows.pairs.plan import PairSettings
from deflow_cli.workflows.pairs.run import MakePairsRequest, make_pairs
from deflow_cli.workflows.restore import RestoreRequest, restore
from deflow_cli.workflows.score.run import ScoreRequest, score
from tests.inference.small import small_model
from tests.listening import Listener
from tests.zoo.animals import picture
from tests.zoo.commands import save_models
from tests.zoo.pngs import png_of


def add(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_of(picture(3, seed=seed)))
    return path


def plain(root: Path) -> None:
    add(root / "D/a.png")
    add(root / "D/sub/b.png", 1)


def to_itself(root: Path) -> None:
    plain(root)
    (root / "D/self").symlink_to(".")
    (root / "D/sub/up").symlink_to("..")


def mesh(root: Path) -> None:
    """Twelve folders, each with links to all others: paths without end."""
    plain(root)
    for number in range(12):
        (root / f"D/x{number}").mkdir()
        for other in range(12):
            (root / f"D/x{number}/to{other}").symlink_to(f"../x{other}")


def upward(root: Path) -> None:
    plain(root)
    add(root / "neighbour.png", 2)
    (root / "D/up").symlink_to("..")


def several_names(root: Path) -> None:
    plain(root)
    (root / "D/c.png").symlink_to("a.png")
    os.link(root / "D/a.png", root / "D/d.png")


def dangling(root: Path) -> None:
    plain(root)
    (root / "D/gone.png").symlink_to("nowhere.png")
    (root / "D/round.png").symlink_to("round.png")


def strange(root: Path) -> None:
    plain(root)
    os.mkfifo(root / "D/pipe.png")


def other_formats(root: Path) -> None:
    plain(root)
    for name in ("x.CR2", "x.psd", "x.exr", "notes.txt", ".hidden.png", "Thumbs.db"):
        (root / "D" / name).write_bytes(b"anything")


def folder_named_as_image(root: Path) -> None:
    plain(root)
    (root / "D/empty.png").mkdir()


def deep(root: Path) -> None:
    plain(root)
    add(root / "D" / "/".join(["d"] * 60) / "c.png", 2)


# A tree: its images, and a word that must be said of what is left out.
TREES: dict[Callable[[Path], None], tuple[int, str]] = {
    plain: (2, ""),
    to_itself: (2, ""),
    mesh: (2, ""),
    upward: (2, "not followed"),
    several_names: (2, "further names"),
    dangling: (2, "lead to nothing"),
    strange: (2, "not regular files"),
    other_formats: (2, "not read"),
    folder_named_as_image: (2, ""),
    deep: (3, ""),
}


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.__name__)
def test_each_command_takes_each_real_file_once(tmp_path: Path, tree: Callable[[Path], None]) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    out.mkdir()
    tree(root)
    count, word = TREES[tree]
    source = root / "D"
    model, restorer = save_models(out)
    heard = {name: Listener() for name in ("degrade", "restore", "score", "make-pairs")}
    done = {
        "degrade": degrade(DegradeRequest(source, out / "d", model, device="cpu"), heard["degrade"]).records,
        "restore": restore(
            RestoreRequest(source, out / "r", restorer, device="cpu"), heard["restore"]
        ).records,
        "make-pairs": range(
            make_pairs(
                MakePairsRequest(
                    source, out / "p", PairSettings(scale=1), DegraderChoice("none"), workers=1, device="cpu"
                ),
                heard["make-pairs"],
            ).images
        ),
        "fit": scan_folder(source, 16).paths,
    }
    assert {name: len(found) for name, found in done.items()} == dict.fromkeys(done, count)
    request = ScoreRequest((source,), source, ("psnr",), ScorerOptions(), device="cpu")
    scored = len(score(request, heard["score"]).scores)
    assert scored == (4 if tree is several_names else count)  # of a method all names count
    for name, listener in heard.items():
        if word and not (name == "score" and tree is several_names):
            assert any(word in text for text in listener.warnings), name


def test_a_folder_without_permission_costs_its_own_images_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain(tmp_path)
    add(tmp_path / "D/closed/c.png", 3)
    scandir = os.scandir

    def refuse(path: Path):  # type: ignore[no-untyped-def]
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    if os.geteuid():
        (tmp_path / "D/closed").chmod(0)
    else:  # who may open everything
        monkeypatch.setattr(listing.os, "scandir", refuse)
    heard = Listener()
    (tmp_path / "out").mkdir()
    save_model(tmp_path / "out/model.safetensors", small_model(), {"step": 1})
    request = DegradeRequest(
        tmp_path / "D", tmp_path / "out/d", tmp_path / "out/model.safetensors", device="cpu"
    )
    assert len(degrade(request, heard).records) == 2
    assert any("closed: left out, it cannot be opened (Permission denied)" in text for text in heard.warnings)
    (tmp_path / "D/closed").chmod(0o755)


def test_an_empty_folder_and_a_missing_one_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        folder = tmp_path / name
        request = DegradeRequest(folder, tmp_path / "out", device="cpu")
        if name == "empty":
            with pytest.raises(DataError, match=name):
                degrade(request, Silent())
        else:  # as it may be a file
            assert [path for path, _ in degrade(request, Silent()).failed] == [folder]
        with pytest.raises(DataError, match=name):
            scan_folder(folder, 16)
        with pytest.raises(DataError, match=name):
            score(ScoreRequest((folder,), None, ("piqe",)), Silent())
        with pytest.raises(DataError, match=name):
            make_pairs(MakePairsRequest(folder, tmp_path / "out", PairSettings(scale=1)), Silent())


def test_a_hundred_thousand_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a fake lister: folders of a thousand images each, and as many links to all of them."""

    class Entry:
        def __init__(self, folder: Path, name: str) -> None:
            self.name, self.path = name, f"{folder}/{name}"

        def is_symlink(self) -> bool:
            return False

        def is_dir(self, *, follow_symlinks: bool) -> bool:
            return "." not in self.name

    def scan(folder: Path) -> list[Entry]:
        names = [f"{i:03d}" for i in range(100)] if folder == tmp_path else [f"{i}.png" for i in range(1000)]
        return [Entry(folder, name) for name in names]

    stated, numbers = os.stat(add(tmp_path / "one.png")), iter(range(1, 200_000))
    monkeypatch.setattr(listing.os, "scandir", scan)
    monkeypatch.setattr(listing.os, "stat", lambda path: stated)
    monkeypatch.setattr(listing, "_identity", lambda status: (1, next(numbers)))
    monkeypatch.setattr(Path, "stat", lambda self, **options: stated)
    monkeypatch.setattr(Path, "is_dir", lambda self, **options: True)
    assert len(list_images(tmp_path)) == 100_000
