"""Output names: folders kept, no collision, no input overwritten."""

from pathlib import Path

import pytest

from deflow_cli.data.images.listing import list_images
from deflow_cli.data.images.outputs import plan_outputs
from deflow_cli.errors import DataError


def make(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return list_images(root)


def planned(root: Path, out: Path, **options: object) -> dict[str, list[str]]:
    plan = plan_outputs(list_images(root), root, out, **options)  # type: ignore[arg-type]
    return {item.key: [t.relative_to(out).as_posix() for t in item.targets] for item in plan}


def test_folders_and_suffixes_are_kept(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.jpg", "x/b.PNG", "x/y/c.tif")
    found = planned(tmp_path / "in", tmp_path / "out")
    assert found == {"a.jpg": ["a.jpg"], "x/b.PNG": ["x/b.PNG"], "x/y/c.tif": ["x/y/c.tif"]}
    found = planned(tmp_path / "in", tmp_path / "out", needs_png=lambda p: p.suffix == ".jpg")
    assert found["a.jpg"] == ["a.png"]
    assert planned(tmp_path / "in", tmp_path / "out", ext="webp")["x/b.PNG"] == ["x/b.webp"]


def test_only_colliding_names_change(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.png", "a.jpg", "b.png", "x/a.png")
    assert planned(tmp_path / "in", tmp_path / "out") == {
        "a.jpg": ["a.jpg"], "a.png": ["a.png"], "b.png": ["b.png"], "x/a.png": ["x/a.png"]
    }  # fmt: skip
    assert planned(tmp_path / "in", tmp_path / "out", ext="png") == {
        "a.jpg": ["a_jpg.png"], "a.png": ["a_png.png"], "b.png": ["b.png"], "x/a.png": ["x/a.png"]
    }  # fmt: skip


def test_malicious_names_stay_apart(tmp_path: Path) -> None:
    names = ["a.png", "A.png", "a.jpg", "a_jpg.png", "a.bmp", "a_s01.png", "X/a.png", "x/a.png"]
    names += ["caf\u00e9.png", "cafe\u0301.png", "v1.2.png", "v1.3.png"]
    make(tmp_path / "in", *names)
    for samples in (1, 2, 120):
        for ext in ("auto", "png"):
            found = planned(tmp_path / "in", tmp_path / "out", ext=ext, samples=samples)
            targets = [name.casefold() for own in found.values() for name in own]
            assert len(targets) == len(set(targets)) == len(names) * samples
            assert found["v1.2.png"][0] == "v1.2" + {1: "", 2: "_s01", 120: "_s001"}[samples] + ".png"


def test_single_file(tmp_path: Path) -> None:
    (source,) = make(tmp_path, "a.jpg")

    def targets(out: str, **options: object) -> list[str]:
        (item,) = plan_outputs([source], source, tmp_path / out, **options)  # type: ignore[arg-type]
        assert item.key == "a.jpg"
        return [t.relative_to(tmp_path).as_posix() for t in item.targets]

    assert targets("out") == ["out/a.jpg"]
    assert targets("b.png") == ["b.png"]
    assert targets("b.png", samples=2) == ["b_s01.png", "b_s02.png"]
    assert targets("out", ext="png", samples=2) == ["out/a_s01.png", "out/a_s02.png"]
    (tmp_path / "dir.png").mkdir()
    assert targets("dir.png") == ["dir.png/a.jpg"]
    with pytest.raises(DataError, match="contradicts"):
        targets("b.png", ext="jpg")


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    (source,) = make(tmp_path / "in", "a.png")
    with pytest.raises(DataError, match=r"overwrite the input .*a\.png"):
        plan_outputs([source], tmp_path / "in", tmp_path / "in")
    with pytest.raises(DataError, match="overwrite"):
        plan_outputs([source], source, source)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(DataError, match="overwrite"):
        plan_outputs([source], tmp_path / "in", tmp_path / "link")
    assert plan_outputs([source], tmp_path / "in", tmp_path / "in", ext="jpg")
    with pytest.raises(DataError, match="is a file"):
        plan_outputs([source], tmp_path / "in", source)
    with pytest.raises(DataError, match="not known"):
        plan_outputs([source], tmp_path / "in", tmp_path / "out", ext="gif")


def test_names_stay_within_what_file_systems_take(tmp_path: Path) -> None:
    names = ["n" * 251 + ".png", "\u00e9" * 125 + "a.png", "\u00e9" * 125 + "b.png", "short.png"]
    make(tmp_path / "in", *names)
    for samples in (1, 3):
        found = planned(tmp_path / "in", tmp_path / "out", ext="webp", samples=samples)
        targets = [name for own in found.values() for name in own]
        assert len(set(targets)) == len(names) * samples
        for name in targets:
            assert len(name.encode()) <= 255
            assert name.endswith(".webp")
            (tmp_path / name).touch()
        assert found["short.png"][0].startswith("short")


def test_what_cannot_be_written_becomes_png(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.gif", "a.png", "b.tga")
    assert planned(tmp_path / "in", tmp_path / "out") == {
        "a.gif": ["a_gif.png"], "a.png": ["a_png.png"], "b.tga": ["b.png"]
    }  # fmt: skip
