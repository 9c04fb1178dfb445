"""Image jobs: with reading and writing in threads, outcome and order are those of one after another."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from deflow_cli.data.images.outputs import PlannedOutput
from deflow_cli.errors import DataError
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.image_jobs import WRITERS, at_once, run_images, run_images_overlapped


class Told(Silent):
    def __init__(self):
        self.told = []

    def update(self, done, **fields):
        self.told.append((done, fields))


class Jobs:
    """Files named by what becomes of them; what was done is recorded."""

    def __init__(self, root: Path, names: list[str]):
        self.planned = [
            PlannedOutput(Path(f"{n} {name}"), f"{n}", (root / f"{n}.txt",)) for n, name in enumerate(names)
        ]
        for item in self.planned:
            if item.source.name.endswith("exists"):
                item.targets[0].write_text("old")
        self.most_waiting = 0
        self._waiting = 0
        self._lock = threading.Lock()

    def read(self, item):
        if item.source.name.endswith("unreadable"):
            raise DataError(f"{item.source}: cannot be read")
        return item.source.name

    def process(self, item, read, submit):
        assert read == item.source.name
        if read.endswith("broken"):
            raise DataError(f"{item.source}: broken")
        if read.endswith("large"):
            raise MemoryError
        if read.endswith("huge"):
            raise RuntimeError("CPUAllocator: can't allocate memory: you tried to allocate 73728000 bytes.")
        with self._lock:
            self._waiting += 1
            self.most_waiting = max(self.most_waiting, self._waiting)

        def write():
            time.sleep(0.02 if read.endswith("slow") else 0)
            if read.endswith("full"):
                raise DataError(f"{item.source}: cannot be written")
            item.targets[0].write_text(read)

        wait = submit(write)

        def finish():
            with self._lock:
                self._waiting -= 1
            wait()
            return read

        return finish

    def run(self, overlapped, reporter):
        options = {"title": "t", "skip_existing": True}
        if overlapped:
            return run_images_overlapped(self.planned, self.read, self.process, reporter, **options)

        def one(item, tell):
            return self.process(item, self.read(item), at_once)()

        return run_images(self.planned, one, reporter, **options)


NAMES = [
    ["ok"],
    ["exists"],
    ["slow", "ok", "unreadable", "slow", "exists", "broken", "full", "ok", "exists", "large", "huge"]
    + ["slow"] * 6,
    ["unreadable", "exists", "exists", "ok"],
    [],
]


@pytest.mark.parametrize("overlapped", [False, True])
def test_what_does_not_fit_the_memory_is_a_reason(tmp_path, overlapped):
    done = Jobs(tmp_path, ["huge", "ok", "large"]).run(overlapped, Silent())
    reason = "too large for this machine's memory"
    failed = [(Path("0 huge"), f"{reason} (73.7 MB more were asked for)"), (Path("2 large"), reason)]
    assert (done.records, done.failed) == (["1 ok"], failed)


@pytest.mark.parametrize("names", NAMES, ids=len)
def test_the_outcome_is_that_of_one_after_another(tmp_path, names):
    results = []
    for overlapped in (False, True):
        root = tmp_path / str(overlapped)
        root.mkdir()
        jobs, reporter = Jobs(root, names), Told()
        done = jobs.run(overlapped, reporter)
        files = {path.name: path.read_text() for path in root.iterdir()}
        results.append((done, reporter.told, files))
        assert jobs.most_waiting <= WRITERS + 1
    assert results[0] == results[1]


def test_an_interruption_lets_files_finish(tmp_path):
    jobs = Jobs(tmp_path, ["slow", "slow", "ok"])
    process = jobs.process

    def interrupted(item, read, submit):
        if read.endswith("ok"):
            raise KeyboardInterrupt
        return process(item, read, submit)

    jobs.process = interrupted
    before = set(threading.enumerate())  # threads that earlier tests of this process left are not ours
    with pytest.raises(KeyboardInterrupt):
        jobs.run(True, Silent())
    assert (tmp_path / "0.txt").read_text() == "0 slow"
    assert not (tmp_path / "2.txt").exists()
    assert not {thread.name for thread in threading.enumerate() if thread not in before}
