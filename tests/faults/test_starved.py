"""Starved: no room, no permission, no memory, no listener: each an error by name, and no file is half."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.data.images.files import Image, read_image, to_pixels, write_image
from tests.faults.inputs import COUNT, Command, writers
from tests.faults.program import Ended, Limits, deflow
from tests.inference.small import smooth_images

FULL = Path("/dev/full")
PRINTING = ("score, table", "score --space, page")
IMAGES = ("degrade", "restore", "edit")
SETS = ("make-pairs, folders", "make-pairs, lmdb", "make-pairs, webdataset")
TRAININGS = ("fit", "sr-train")
NAMES = (*IMAGES, *PRINTING, "export", "report", *SETS, *TRAININGS)


def started_on(inputs: Path, folder: Path, name: str) -> Command:
    """A command whose OUT is there, empty."""
    (folder / "out").mkdir()
    return writers(inputs, folder)[name]


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def temporary(folder: Path) -> list[str]:
    return [name for name in files(folder) if name.endswith(".tmp")]


def told(ended: Ended, reason: str, next_step: str = "") -> None:
    """It ended with an error that gives the reason and what to do."""
    assert ended.code == 1, ended.err
    assert "Traceback" not in ended.err
    assert reason in ended.err, ended.err
    assert f"\n  next: {next_step}" in ended.err


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_is_read_only(inputs: Path, tmp_path: Path, name: str) -> None:
    command = started_on(inputs, tmp_path, name)
    (tmp_path / "out").chmod(0o555)
    ended = deflow(*command.words, folder=tmp_path)
    (tmp_path / "out").chmod(0o755)
    told(ended, "(Permission denied")
    assert f"{tmp_path / 'out'}" in ended.err
    assert files(tmp_path / "out") == []
    assert ended.err.count("Permission denied") == 1  # said before the work, and once


@pytest.mark.parametrize("name", [name for name in NAMES if name != "score, table"])  # is too short
def test_files_that_find_no_room(inputs: Path, tmp_path: Path, name: str) -> None:
    """As on a full disk: a file ends before it is whole. What was there before stays as it was."""
    command = started_on(inputs, tmp_path, name)
    ended = deflow(*command.words, folder=tmp_path, limits=Limits(file=3000))
    if name in IMAGES:
        assert ended.code == 1
        assert ended.err.count("cannot be written (File too large)") == COUNT
    else:
        told(ended, "cannot be written (File too large)", "make room on that disk")
    if name in PRINTING:
        assert "mean" in ended.out  # what was computed is printed
    left = set(files(tmp_path / "out"))
    assert left <= {"deflow.partial.json", "config.toml", "data.json", "run.json"}, left


@pytest.mark.slow(seconds=10)
def test_a_file_that_finds_no_room_leaves_the_old_one(inputs: Path, tmp_path: Path) -> None:
    for name in ("export", "report"):
        command, limits = writers(inputs, tmp_path)[name], Limits(file=3000)
        assert deflow(*command.words, folder=tmp_path).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert len(before) == 2
    for name in ("export", "report"):
        told(deflow(*writers(inputs, tmp_path)[name].words, folder=tmp_path, limits=limits), "File too large")
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


# -- memory -----------------------------------------------------------------------------------------------

# A network with a tensor of 600 MB or more, which cannot be had while messages and files have their memory.
TOO_LARGE = {
    "fit": ("flow.hidden_channels=16384", "lower fit.batch_size or fit.patch_size, or use --memory low"),
    "sr-train": ("restorer.channels=4096", "lower sr.batch_size or sr.gt_size"),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_memory_that_runs_out_is_said_with_what_to_lower(inputs: Path, tmp_path: Path, name: str) -> None:
    command, (setting, next_step) = started_on(inputs, tmp_path, name), TOO_LARGE[name]
    ended = deflow(*command.words, "--set", setting, folder=tmp_path, limits=Limits(memory=400 << 20))
    told(ended, "out of memory", next_step)
    assert files(tmp_path / "out") == []


def test_tiles_follow_the_memory_and_do_not_show(inputs: Path, tmp_path: Path) -> None:
    """400 x 600 pixels take some 85 MB at once, which a limit of 150 MB does not leave beside the rest.

    Convolutions of other sizes may sum in another order, which decides a rounding to 8 bits now and then.
    """
    write_image(tmp_path / "in.png", Image(to_pixels(smooth_images(1, 400, 600, seed=3))))
    model = ["--model", inputs / "model.safetensors", "--device", "cpu"]
    for out, limits in (("whole.png", Limits()), ("tiles.png", Limits(memory=150 << 20))):
        ended = deflow("degrade", tmp_path / "in.png", tmp_path / out, *model, folder=tmp_path, limits=limits)
        assert ended.code == 0, ended.err
    whole, tiles = (read_image(tmp_path / name).pixels for name in ("whole.png", "tiles.png"))
    difference = np.abs(whole.astype(int) - tiles)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-4


@pytest.mark.slow(seconds=60)
@pytest.mark.skipif(sys.platform != "linux", reason="kilobytes of memory are counted on Linux")
def test_24_megapixels_take_less_than_4_gigabytes(inputs: Path, tmp_path: Path) -> None:
    """The most that any process took which this one started: that of the picture, or one that took more."""
    pixels = np.broadcast_to(np.linspace(0, 255, 6000).astype(np.uint8)[None, :, None], (4000, 6000, 3))
    write_image(tmp_path / "in.png", Image(np.ascontiguousarray(pixels)))
    model = ["--model", inputs / "model.safetensors", "--device", "cpu"]
    ended = deflow("degrade", tmp_path / "in.png", tmp_path / "out.png", *model, folder=tmp_path)
    assert ended.code == 0, ended.err
    taken = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    assert 4000 * 6000 * 3 * 4 < taken < 4_000_000_000


# -- messages ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("name", ["degrade", "score, table", "make-pairs, folders", "fit"])
def test_messages_that_nobody_can_take_cost_no_result(inputs: Path, tmp_path: Path, name: str) -> None:
    command = started_on(inputs, tmp_path, name)
    ended = deflow(*command.words, folder=tmp_path, stderr=FULL)
    assert ended.code == 0
    expected = {"degrade": "6 written", "score, table": "mean", "fit": "done at step 6"}.get(name, "6 pairs")
    assert expected in ended.out
    assert len(files(tmp_path / "out")) >= (1 if name == "score, table" else COUNT)
    failing = deflow("inspect", tmp_path / "nothing", folder=tmp_path, stderr=FULL)
    assert (failing.code, failing.out) == (1, "")
