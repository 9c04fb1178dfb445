"""The lock of a folder: one at a time, said by name, gone with its process, and nothing left of it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from deflow_cli.errors import DataError
from deflow_cli.runtime import folder_lock
from deflow_cli.runtime.folder_lock import sole_writer

HOLDS = """
import sys
from pathlib import Path
from deflow_cli.runtime.folder_lock import sole_writer
sys.argv = ["/usr/bin/deflow", "fit", "my pictures", "--seed", "3"]
with sole_writer(Path("run"), ".lock", what="another run", next_step="choose another --out"):
    print("held", flush=True)
    sys.stdin.read()
"""


def alone(folder: Path, **given: object) -> object:
    return sole_writer(folder, ".lock", what="another run", next_step="choose another --out", **given)  # type: ignore[arg-type]


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock of ``run``, until its input ends."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLDS]
    with subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_other_process_is_named(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(DataError) as caught, alone(run):
        raise AssertionError("two at a time")
    since = json.loads((run / ".lock").read_text())["since"]
    age = datetime.now().astimezone() - datetime.fromisoformat(since)
    assert 0 <= age.total_seconds() < 60
    owner = f"process {holder.pid} on {os.uname().nodename} since {since}: deflow fit 'my pictures' --seed 3"
    assert str(caught.value) == f"{run}: another run writes there already: {owner}"
    assert caught.value.next_step == "wait until that has ended, or choose another --out"
    assert holder.stdin is not None
    holder.stdin.close()
    holder.wait()
    assert not run.exists()
    with alone(run):
        assert json.loads((run / ".lock").read_text())["process"] == os.getpid()
    assert not run.exists()


def test_a_lock_dies_with_its_process(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run/.lock").is_file()
    with alone(tmp_path / "run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []  # which this process has not made


def test_only_what_was_made_and_is_empty_is_removed(tmp_path: Path) -> None:
    with alone(tmp_path / "a/b/c"):
        (tmp_path / "a/kept").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "kept"]
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "x/y"):
        raise ZeroDivisionError
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b'{"process": 1}', b"\xff\x00"])
def test_an_owner_that_has_not_said_who_it_is(tmp_path: Path, record: bytes) -> None:
    with alone(tmp_path):
        (tmp_path / ".lock").write_bytes(record)
        with pytest.raises(DataError, match="a process that has not said yet which it is"), alone(tmp_path):
            pass


def test_threads_take_turns(tmp_path: Path) -> None:
    """Though each removes the file and the folder that the others are about to open."""
    inside, most, done, refusals = 0, 0, [], []

    def work() -> None:
        nonlocal inside, most
        while len(done) < 200:
            try:
                with alone(tmp_path / "deep/run"):
                    inside += 1
                    most = max(most, inside)
                    done.append(1)
                    inside -= 1
            except DataError as error:
                refusals.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert all("another run writes there already" in text for text in refusals)


def test_a_folder_that_another_removes_while_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between "it exists" and the look whether it is a folder, its owner has removed it; then it is made."""
    make, refusals = Path.mkdir, [FileExistsError(errno.EEXIST, "File exists"), FileNotFoundError()]

    def refuse_twice(path: Path, *args: Any, **options: Any) -> None:
        if refusals:
            raise refusals.pop()
        make(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", refuse_twice)
    with alone(tmp_path / "run"):
        assert refusals == []
        assert (tmp_path / "run/.lock").is_file()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"kept")
    with (
        pytest.raises(DataError, match=r"run: cannot be a folder to write to \(File exists\)"),
        alone(tmp_path / "run"),
    ):
        pass
    assert (tmp_path / "run").read_bytes() == b"kept"


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock, "_take", refuse)
    told: list[str] = []
    with alone(tmp_path, warn=told.append):
        pass
    assert told == [
        f"{tmp_path}: its file system has no locks (No locks available); start no second run there"
    ]


def test_a_place_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(DataError, match=r"file: cannot be a folder to write to \((File|Not)"),
        alone(tmp_path / "file"),
    ):
        pass
