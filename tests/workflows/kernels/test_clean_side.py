"""The clean side made of clean pictures and kernels: which kernel, which pixels, and what is made again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.data.blur.kernels import blur_and_downsample, load_kernels
from deflow_cli.data.blur.shapes import gaussian_kernel
from deflow_cli.data.images.files import Image, read_rgb8, write_image
from deflow_cli.errors import DataError
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.kernels.clean_side import blur_clean, clean_side
from tests.listening import Listener


@pytest.fixture
def places(tmp_path):
    """Folders of pictures and of kernels, and a run's folder."""
    random = np.random.default_rng(0)
    for name in ("a.png", "b/c.png", "d.jpg"):
        write_image(tmp_path / "clean" / name, Image(random.integers(0, 255, (64, 48, 3), dtype=np.uint8)))
    (tmp_path / "kernels").mkdir()
    for index in range(3):
        kernel = gaussian_kernel((1 + index) * np.eye(2), 13, 1.5)
        np.save(tmp_path / "kernels" / f"{index}.npy", kernel)
    return tmp_path / "clean", tmp_path / "kernels", tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def test_pictures_are_down_sampled_by_a_drawn_kernel(places):
    made = blur_clean(*places, 0, Silent())
    assert made.folder == places[2] / "clean-blurred"
    assert contents(made.folder).keys() == {"a.png", "b/c.png", "d.png"}
    listed = json.loads((places[2] / "clean-blurred.json").read_text())
    kernels = {kernel.file: kernel for kernel in load_kernels(places[1])}
    for name, entry in listed["pictures"].items():
        source = places[0] / ("d.jpg" if name == "d.png" else name)
        expected = blur_and_downsample(read_rgb8(source), kernels[entry["kernel"]], 4, "deflow", "direct")
        np.testing.assert_array_equal(read_rgb8(made.folder / name), expected)
        assert expected.shape == (16, 12, 3)
    facts = made.facts["clean_kernels"]
    assert {key: facts[key] for key in ("count", "scale", "seed")} == {"count": 3, "scale": 4, "seed": 0}
    assert facts["used"] == len({entry["kernel"] for entry in listed["pictures"].values()})


def test_kernel_depends_on_the_seed_and_the_name_alone(places, tmp_path):
    first = contents(blur_clean(*places, 0, Silent()).folder)
    (places[0] / "a.png").unlink()
    fewer = contents(blur_clean(places[0], places[1], tmp_path / "fewer", 0, Silent()).folder)
    assert fewer == {name: first[name] for name in ("b/c.png", "d.png")}
    drawn = set()
    for seed in range(6):
        blur_clean(places[0], places[1], tmp_path / str(seed), seed, Silent())
        listed = json.loads((tmp_path / str(seed) / "clean-blurred.json").read_text())
        drawn.add(tuple(entry["kernel"] for entry in listed["pictures"].values()))
    assert len(drawn) > 1


def test_scale_is_that_of_the_folder(places):
    pool = {"kind": "deflow-kernels", "version": 1, "method": "spectrum", "scale": 2, "iterations": 3000}
    pool |= {"seed": 0, "kernels": [], "failed": []}
    (places[1] / "kernels.json").write_text(json.dumps(pool))
    made = blur_clean(*places, 0, Silent())
    assert read_rgb8(made.folder / "a.png").shape == (32, 24, 3)
    assert made.facts["clean_kernels"]["scale"] == 2
    assert made.facts["clean_kernels"]["estimated"] == "spectrum, x2"


def test_only_what_changed_is_made_again(places):
    folder = blur_clean(*places, 0, Silent()).folder
    before = contents(folder)
    for path in folder.rglob("*.png"):
        path.write_bytes(b"kept")
    blur_clean(*places, 0, Silent())
    assert set(contents(folder).values()) == {b"kept"}
    write_image(places[0] / "a.png", Image(np.full((64, 48, 3), 9, np.uint8)))
    (folder / "d.png").unlink()
    (places[0] / "b/c.png").unlink()
    after = contents(blur_clean(*places, 0, Silent()).folder)
    assert after.keys() == {"a.png", "d.png"}
    assert after["d.png"] == before["d.png"]
    assert read_rgb8(folder / "a.png").mean() == 9


def test_other_kernels_make_all_again(places):
    made = blur_clean(*places, 0, Silent())
    before = contents(made.folder)
    for index in range(3):
        np.save(places[1] / f"{index}.npy", gaussian_kernel((3 + index) * np.eye(2), 13, 1.5))
    other = blur_clean(*places, 0, Silent())
    assert all(contents(other.folder)[name] != content for name, content in before.items())
    assert other.facts["clean_kernels"]["sha256"] != made.facts["clean_kernels"]["sha256"]
    assert other.contents["kernels"] != made.contents["kernels"]
    assert other.contents["clean pictures"] == made.contents["clean pictures"]


def test_what_a_killed_run_leaves_is_made_again(places, monkeypatch):
    from deflow_cli.workflows.kernels import clean_side

    whole = contents(blur_clean(places[0], places[1], places[2] / "whole", 0, Silent()).folder)

    def killed(path, image):
        if path.name == "d.png":
            raise KeyboardInterrupt
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")

    monkeypatch.setattr(clean_side, "write_image", killed)
    with pytest.raises(KeyboardInterrupt):
        blur_clean(*places, 0, Silent())
    monkeypatch.undo()
    assert contents(blur_clean(*places, 0, Silent()).folder) == whole


def test_bad_pictures_are_named_and_left_out(places):
    (places[0] / "e.png").write_bytes(b"nothing")
    write_image(places[0] / "f.png", Image(np.zeros((3, 90, 3), np.uint8)))
    listener = Listener()
    made = blur_clean(*places, 0, listener)
    assert contents(made.folder).keys() == {"a.png", "b/c.png", "d.png"}
    (text,) = listener.warnings
    assert "left out 2: e.png: " in text
    assert "f.png: 90x3 is smaller than 4 px" in text


def test_pictures_of_the_run_itself_are_no_source(places):
    inside = places[0] / "run"
    blur_clean(places[0], places[1], inside, 0, Silent())
    assert contents(blur_clean(places[0], places[1], inside, 0, Silent()).folder).keys() == {
        "a.png",
        "b/c.png",
        "d.png",
    }


def test_nothing_to_use(places, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image found"):
        blur_clean(tmp_path / "empty", places[1], places[2], 0, Silent())
    with pytest.raises(DataError, match="holds no blur kernels"):
        blur_clean(places[0], tmp_path / "empty", places[2], 0, Silent())
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"no clean picture can be used: x\.png"):
        blur_clean(tmp_path / "broken", places[1], places[2], 0, Silent())


# -- the side of a run that is about to begin --------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    clean: Path
    kernels: Path | None
    out: Path


def fail(request: Request, error: BaseException) -> None:
    """A run that ends by an error once its pictures are made."""

    def begin() -> None:
        with clean_side(request, 0, Silent()) as side:
            assert contents(side.folder).keys() == {"a.png", "b/c.png", "d.png"}
            raise error

    with pytest.raises(type(error), match=str(error)):
        begin()


def test_a_run_that_is_refused_leaves_no_pictures(places):
    request = Request(*places)
    request.out.mkdir()
    for error in (DataError("noisy: too small"), RuntimeError("out of memory")):
        fail(request, error)
        assert list(request.out.iterdir()) == []


def test_pictures_that_were_there_stay_where_a_run_is_refused(places):
    request = Request(*places)
    with clean_side(request, 0, Silent()) as side:
        before = contents(side.folder)
    fail(request, DataError("noisy: too small"))
    assert contents(request.out / "clean-blurred") == before
    assert (request.out / "clean-blurred.json").exists()


def test_an_interrupted_run_keeps_the_pictures_to_go_on_with(places):
    fail(Request(*places), KeyboardInterrupt("Ctrl-C"))
    assert len(contents(places[2] / "clean-blurred")) == 3


def test_a_run_without_kernels_has_its_clean_folder(places):
    with clean_side(Request(places[0], None, places[2]), 0, Silent()) as side:
        assert (side.folder, side.sources, side.facts, side.contents) == (places[0], {}, {}, {})
    assert not places[2].exists()
