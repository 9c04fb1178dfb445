"""Crowded: two commands that want to write to one folder; the second learns who does."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from deflow_cli.data.pairs.records import STAGING
from deflow_cli.paths import RUN_LOCK
from tests.faults.inputs import FORMATS, data_sets, trainings
from tests.faults.program import Ended, Started, deflow
from tests.test_paths import left_by_a_killed_process

TRAININGS = ("fit", "sr-train", "srflow")
DATA_SETS = tuple(f"make-pairs, {name}" for name in FORMATS)


def stopped_with(command: list[object], lock: Path, folder: Path) -> Started:
    """A command that has the lock, and goes on only when it is told to."""
    first, until = Started(command, folder), time.monotonic() + 60
    while not (lock.exists() and lock.read_bytes()):
        assert first.is_alive, first.ended()
        assert time.monotonic() < until
        time.sleep(0.002)
    first.signal(signal.SIGSTOP)
    return first


def refused(second: Ended, first: Started, out: Path, command: str) -> None:
    assert (second.code, second.out) == (1, "")
    assert f"{out}: another {command}" in second.err
    assert f"process {first.pid} on " in second.err
    assert f": deflow {command.split()[-1]}" in second.err or "training" in command
    assert "next: wait until that has ended, or choose another" in second.err


@pytest.mark.parametrize("name", TRAININGS)
def test_one_training_at_a_time(inputs: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "run"
    command = trainings(inputs, out)[name]
    first = stopped_with(command, out / RUN_LOCK, tmp_path)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    refused(deflow(*command, "--resume", folder=tmp_path), first, out, "training")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    first.signal(signal.SIGCONT)
    assert first.ended().code == 0
    assert not (out / RUN_LOCK).exists()


@pytest.mark.parametrize("name", DATA_SETS)
def test_one_data_set_at_a_time(inputs: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    command = data_sets(inputs, out)[name]
    first = stopped_with(command, out / STAGING / "lock", tmp_path)
    refused(deflow(*command, folder=tmp_path), first, out, "deflow make-pairs")
    first.signal(signal.SIGCONT)
    assert first.ended().code == 0
    assert "complete already" in deflow(*command, folder=tmp_path).err


def test_a_killed_run_leaves_no_lock(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = trainings(inputs, out)["fit"]
    first = stopped_with(command, out / RUN_LOCK, tmp_path)
    first.signal(signal.SIGKILL)
    assert first.ended().code == -signal.SIGKILL
    assert (out / RUN_LOCK).exists()  # and says nothing any more
    half = left_by_a_killed_process(out)
    assert deflow(*command, "--resume", folder=tmp_path).code == 0
    assert not (out / RUN_LOCK).exists()
    assert not half.exists()
