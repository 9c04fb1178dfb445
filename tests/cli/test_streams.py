"""Streams: every encoding gets a readable text, a full device is an error, nothing computed is lost."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deflow_cli.cli.streams import can_show, prepare_streams, visible

FULL = Path("/dev/full")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 255, (48, 48, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def deflow(*args: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the program in a process of its own, whose streams are real."""
    given = {"stdout": subprocess.PIPE} | options
    command = [sys.executable, "-m", "deflow_cli", *(str(arg) for arg in args)]
    return subprocess.run(command, stderr=subprocess.PIPE, check=False, **given)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp437", "utf-8", "shift_jis"])
def test_any_encoding_shows_a_readable_text(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    prepare_streams()
    print("PSNR ↑ 31.2 ± 0.3 dB — “naïve” → 日本 caf\udce9")
    sys.stdout.flush()
    shown = raw.getvalue().decode(encoding)
    for part in ("PSNR ", " 31.2 ", " 0.3 dB ", "ve", "caf\\xe9"):
        assert part in shown
    if encoding == "ascii":
        assert shown.strip() == 'PSNR ^ 31.2 +/- 0.3 dB - "naive" -> ?? caf\\xe9'
    assert can_show("plain")
    assert can_show("↑") == (encoding in ("utf-8", "shift_jis"))
    assert not can_show("\udce9")


@pytest.mark.slow(seconds=7)
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_score_is_written_and_shown_in_any_encoding(images: Path, encoding: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    arguments = ["score", images, "--ref", images, "--metrics", "psnr,piqe", "--csv", "s.csv"]
    done = deflow(*arguments, cwd=images.parent, env=environment)
    assert done.returncode == 0, done.stderr
    assert len((images.parent / "s.csv").read_text().splitlines()) == 5
    shown = done.stdout.decode(encoding)
    assert "PIQE v" in shown
    assert "2 of 2" in shown


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["weights", "list"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_device_is_an_error_like_others(arguments: list[str], unbuffered: str) -> None:
    with FULL.open("wb") as full:
        done = deflow(*arguments, stdout=full, env=os.environ | {"PYTHONUNBUFFERED": unbuffered})
    text = done.stderr.decode()
    assert done.returncode == 1
    assert "error: the standard output cannot be written (No space left on device)" in text
    assert "next: make room" in text
    assert "Traceback" not in text
    assert "Exception ignored" not in text


@pytest.mark.slow(seconds=13)
@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_files_are_written_although_nothing_can_be_printed(images: Path) -> None:
    arguments = ["score", images, "--metrics", "piqe", "--csv", "s.csv", "--html", "s.html"]
    with FULL.open("wb") as full:
        done = deflow(*arguments, stdout=full, cwd=images.parent)
    assert done.returncode == 1
    assert b"standard output cannot be written" in done.stderr
    assert len((images.parent / "s.csv").read_text().splitlines()) == 3
    assert (images.parent / "s.html").stat().st_size > 1000


@pytest.mark.slow(seconds=11)
def test_json_is_exact_in_any_encoding(images: Path) -> None:
    (images / "0.png").rename(images / "größe.png")
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = deflow("score", images, "--metrics", "piqe", "--json", env=environment)
    assert done.returncode == 0, done.stderr
    names = [row["image"] for row in json.loads(done.stdout)["images"]]
    assert sorted(names) == ["1", "größe"]


def test_a_reader_that_has_gone_is_no_error_of_ours(images: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = deflow("weights", "list", stdout=gone)
    assert b"Traceback" not in done.stderr
    assert b"error" not in done.stderr


@pytest.mark.slow(seconds=9)
@pytest.mark.skipif(os.name != "posix", reason="streams are closed by a shell of POSIX")
@pytest.mark.parametrize("closed", ["2>&-", "<&-", "2>&- <&-"])
def test_streams_that_are_closed_cost_no_result_and_get_into_no_file(images: Path, closed: str) -> None:
    """The next file that is opened would have the number of the closed stream."""
    command = f"{sys.executable} -m deflow_cli score images --metrics piqe --csv s.csv {closed}"
    done = subprocess.run(command, shell=True, cwd=images.parent, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0
    assert b"PIQE" in done.stdout
    assert len((images.parent / "s.csv").read_text().splitlines()) == 3


HOSTILE = "\x1b[2J\x1b]0;title\x07 \x9b31m\r.png"


@pytest.mark.slow(seconds=8)
def test_names_do_not_command_the_terminal(tmp_path: Path) -> None:
    assert visible("a\tb\nc") == "a\tb\nc"
    assert visible(HOSTILE) == "\\x1b[2J\\x1b]0;title\\x07 \\x9b31m\\x0d.png"
    folder = tmp_path / HOSTILE
    folder.mkdir()
    Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(folder / HOSTILE)
    (folder / f"broken{HOSTILE}").write_bytes(b"no image")
    done = deflow("score", folder, "--metrics", "piqe")
    shown = (done.stdout + done.stderr).decode()
    assert "\\x1b[2J" in shown
    assert not set(shown) & set(HOSTILE[0] + "\x07\x9b\r")
    done = deflow("score", tmp_path / f"missing{HOSTILE}")
    assert b"\\x1b[2J" in done.stderr
    assert b"\x1b" not in done.stderr.replace(b"\\x1b", b"")
