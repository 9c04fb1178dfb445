"""Shards and Ray: whoever makes which pairs, in whatever order, killed or not, the files are the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deflow_cli.config.shards import Shard
from deflow_cli.data.pairs.formats import MANIFEST, UNFINISHED
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.runtime.folder_lock import FolderInUseError, sole_writer
from deflow_cli.workflows.pairs import parts
from deflow_cli.workflows.pairs.ray_engine import find_cause
from deflow_cli.workflows.pairs.shards import SHARDS
from tests.listening import Listener
from tests.rank_processes import environment
from tests.workflows.pairs.asking import NONE, ask, files

NOISE = DegraderChoice("white-noise", sigma=8.0)
KINDS = ["folders", "lmdb", "webdataset"]


def recipe(kind: str) -> dict[str, object]:
    return {"choice": NOISE, "format": kind, "variants": 2, "temperature": (0.5, 1.0), "crop": 48}


def done_file(target: Path, shard: str) -> Path:
    number, count = shard.split("/")
    return target / SHARDS / f"{int(number):05d}-of-{int(count):05d}.json"


@pytest.fixture
def small_tars(monkeypatch):
    """A tar file for each image, so that there is something to divide."""
    monkeypatch.setattr("deflow_cli.data.pairs.webdataset.SHARD_PAIRS", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_shards_in_any_order_make_what_one_process_makes(hr, tmp_path, kind, small_tars):
    if kind == "lmdb":
        pytest.importorskip("lmdb")
    ask(hr, tmp_path / "one", **recipe(kind))
    out = tmp_path / "shards"
    reports = [ask(hr, out, shard=Shard(number, 3), **recipe(kind)) for number in (3, 1, 2)]
    assert all(0 < report.written == report.pairs for report in reports)
    assert (out / UNFINISHED).exists()
    assert not (out / MANIFEST).exists()
    told = json.loads(done_file(out, "1/3").read_text())
    assert told["pairs"] == reports[1].pairs
    assert all(len(digest) == 64 for digest in told["files"].values())
    again = ask(hr, out, shard=Shard(1, 3), **recipe(kind))
    assert (again.written, again.pairs) == (0, reports[1].pairs)
    merged = ask(hr, out, merge=True)
    assert merged.pairs == sum(report.pairs for report in reports)
    assert files(out) == files(tmp_path / "one")
    assert ask(hr, out, merge=True).written == 0  # complete already
    assert ask(hr, out, shard=Shard(2, 3), **recipe(kind)).written == 0


def test_more_shards_than_images_are_empty_ones(hr, tmp_path):
    ask(hr, tmp_path / "one", choice=NOISE)
    for number in range(1, 7):
        ask(hr, tmp_path / "six", choice=NOISE, shard=Shard(number, 6))
    ask(hr, tmp_path / "six", merge=True)
    assert files(tmp_path / "six") == files(tmp_path / "one")


KILLED = """
import sys, time
from pathlib import Path
from deflow_cli.config.shards import Shard
from deflow_cli.workflows.pairs.making import PairMaker
from tests.workflows.pairs.asking import ask
from tests.workflows.pairs.test_shards import recipe

made = PairMaker.__call__
def slowly(self, planned):
    time.sleep(0.5)
    return made(self, planned)
PairMaker.__call__ = slowly
hr, out = map(Path, sys.argv[1:])
ask(hr, out, shard=Shard(1, 2), workers=1, **recipe("folders"))
"""


@pytest.mark.slow(seconds=9)
def test_a_shard_that_is_killed_is_named_and_made_again(hr, tmp_path):
    ask(hr, tmp_path / "one", **recipe("folders"))
    out = tmp_path / "two"
    ask(hr, out, shard=Shard(2, 2), **recipe("folders"))
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(hr), str(out)], env=environment())
    there = len(list((out / "lq").iterdir()))
    while len(list((out / "lq").iterdir())) == there:
        assert process.poll() is None
        time.sleep(0.02)
    with pytest.raises(FolderInUseError, match=r"another process that makes shard 1/2"):
        ask(hr, out, shard=Shard(1, 2), **recipe("folders"))
    with pytest.raises(FolderInUseError, match="a shard's process writes there already"):
        ask(hr, out, **recipe("folders"))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(DataError, match=r"1 of 2 shards are not done: 1/2") as caught:
        ask(hr, out, merge=True)
    assert "--shard 1/2" in caught.value.next_step
    assert ask(hr, out, shard=Shard(1, 2), **recipe("folders")).written > 0
    ask(hr, out, merge=True)
    assert files(out) == files(tmp_path / "one")


def test_a_merge_finds_what_changed_since(hr, tmp_path):
    out = tmp_path / "out"
    for number in (1, 2):
        ask(hr, out, choice=NOISE, shard=Shard(number, 2))
    name = next(iter(json.loads(done_file(out, "2/2").read_text())["files"]))
    (out / name).write_bytes((out / name).read_bytes()[:-1])
    with pytest.raises(DataError, match="are not what they wrote: 2/2") as caught:
        ask(hr, out, merge=True)
    assert "--shard 2/2" in caught.value.next_step
    ask(hr, out, choice=NOISE, shard=Shard(2, 2))
    ask(hr, out, merge=True)
    ask(hr, tmp_path / "one", choice=NOISE)
    assert files(out) == files(tmp_path / "one")


def test_shards_of_another_recipe_or_changed_images_are_refused(hr, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match="no shard has begun there"):
        ask(hr, out, merge=True)
    ask(hr, out, choice=NOISE, shard=Shard(1, 2))
    with pytest.raises(DataError, match=r"made otherwise: seed 0 there, now 7"):
        ask(hr, out, choice=NOISE, shard=Shard(2, 2), seed=7)
    with pytest.raises(DataError, match="made otherwise"):
        ask(hr, out, choice=NONE, shard=Shard(2, 2))
    for path in sorted(hr.rglob("*.png")):
        path.write_bytes(path.read_bytes() + b"\0")  # the same pixels in another file
    with pytest.raises(DataError, match="has changed meanwhile"):
        ask(hr, out, choice=NOISE, shard=Shard(2, 2))


def test_a_manifest_is_made_again_by_shards(hr, tmp_path):
    ask(hr, tmp_path / "one", choice=NOISE, seed=3)
    for number in (2, 1):
        ask(hr, tmp_path / "out", manifest=tmp_path / "one" / MANIFEST, shard=Shard(number, 2))
    ask(hr, tmp_path / "out", merge=True)
    assert files(tmp_path / "out") == files(tmp_path / "one")


def test_shards_wait_for_the_one_that_plans(hr, tmp_path, monkeypatch):
    """Another process has the folder's lock and ends, without a plan: the next one plans."""
    out, listener = tmp_path / "out", Listener()
    lock = sole_writer(out, ".deflow-tmp/lock", what="another", next_step="wait")
    lock.__enter__()

    def sleep(seconds):
        lock.__exit__(None, None, None)

    monkeypatch.setattr(parts.time, "sleep", sleep)
    ask(hr, out, choice=NOISE, shard=Shard(1, 1), reporter=listener)
    assert any("waiting for it" in note for note in listener.notes)
    ask(hr, out, merge=True)


def test_ways_that_do_not_go_together(hr, tmp_path):
    with pytest.raises(ConfigError, match="--shard and --merge"):
        ask(hr, tmp_path / "out", shard=Shard(1, 2), merge=True)
    with pytest.raises(ConfigError, match="--shard and --overwrite"):
        ask(hr, tmp_path / "out", shard=Shard(1, 2), overwrite=True)
    with pytest.raises(ConfigError, match="engine 'dask' is unknown"):
        ask(hr, tmp_path / "out", engine="dask")


# -- Ray ------------------------------------------------------------------------------------------------


@pytest.fixture
def ray(monkeypatch):
    """A cluster of one CPU, which ends with the test; skipped where ray is not installed."""
    found = pytest.importorskip("ray", reason="ray is not installed: pip install 'deflow-cli[ray]'")
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000)
    yield found
    found.shutdown()


@pytest.mark.slow(seconds=20)
@pytest.mark.skipif(not os.environ.get("DEFLOW_RAY"), reason="starts a Ray cluster: set DEFLOW_RAY=1")
def test_ray_makes_what_one_process_makes(hr, tmp_path, ray):
    for kind in ("folders", "webdataset"):
        ask(hr, tmp_path / kind / "one", **recipe(kind))
        out = tmp_path / kind / "ray"
        report = ask(hr, out, engine="ray", workers=1, **recipe(kind))
        assert report.written == report.pairs
        assert files(out) == files(tmp_path / kind / "one")
    # a data set that shards began goes on
    out = tmp_path / "begun"
    ask(hr, out, shard=Shard(1, 2), **recipe("folders"))
    begun = ask(hr, out, engine="ray", **recipe("folders"))
    assert 0 < begun.written < begun.pairs
    assert files(out) == files(tmp_path / "folders" / "one")


def test_what_an_actor_refuses_is_told_in_its_words():
    refused = DataError("a.png: has changed meanwhile", next_step="start again")
    wrapped, outer = RuntimeError("the task failed"), RuntimeError("ray")
    wrapped.__cause__, outer.cause = refused, wrapped
    assert find_cause(outer) is refused
    assert find_cause(ValueError("of another kind")) is None


def test_ray_without_a_cluster_says_how_to_start_one(hr, tmp_path, monkeypatch):
    found = pytest.importorskip("ray", reason="ray is not installed: pip install 'deflow-cli[ray]'")

    def init(**options):
        assert options["address"] == "auto"
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(found, "is_initialized", lambda: False)
    monkeypatch.setattr(found, "init", init)
    with pytest.raises(ConfigError, match="finds no running cluster") as caught:
        ask(hr, tmp_path / "out", choice=NOISE, engine="ray")
    assert "ray start --head" in caught.value.next_step


def test_without_the_package_the_extra_is_named(hr, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="needs the package ray") as caught:
        ask(hr, tmp_path / "out", choice=NOISE, engine="ray")
    assert "deflow-cli[ray]" in caught.value.next_step
