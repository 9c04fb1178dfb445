"""`deflow make-pairs`: what the workflow is asked for, what is refused before it, and what it says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from deflow_cli.config.shards import Shard
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.workflows.pairs import run as workflow
from deflow_cli.workflows.pairs.plan import PairSettings
from tests.cli.conftest import Recorder

REPORT = workflow.MakePairsReport(
    target=Path("out"),
    format="folders",
    degrader={"name": "deflow"},
    model=Path("m.safetensors"),
    model_origin="embedded",
    images=3,
    pairs=12,
    written=12,
    gt_sizes=((320, 480), (480, 480)),
    lq_sizes=((80, 120), (120, 120)),
    left_out=(("bad.png", "truncated"),),
    doubtful=(),
    workers=2,
    seconds=61.0,
)


@pytest.fixture
def recorder(monkeypatch):
    found = Recorder(REPORT)
    monkeypatch.setattr(workflow, "make_pairs", found)
    return found


def test_request_by_default(deflow, folders, recorder):
    result = deflow("make-pairs", folders[0], "out")
    assert result.exit_code == 0, result.output
    assert recorder.requests == [workflow.MakePairsRequest(folders[0], Path("out"))]


def test_request_of_a_shard(deflow, folders, recorder, monkeypatch):
    args = ["make-pairs", folders[0], "out"]
    assert deflow(*args, "--shard", "2/3").exit_code == 0
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "9")
    assert deflow(*args, "--shard", "auto").exit_code == 0
    assert deflow(*args).exit_code == 0  # a scheduler's variables alone change nothing
    assert deflow(*args, "--merge").exit_code == 0
    assert deflow(*args, "--engine", "ray").exit_code == 0
    assert [request.shard for request in recorder.requests[:3]] == [Shard(2, 3), Shard(4, 9), None]
    assert [request.merge for request in recorder.requests[2:]] == [False, True, False]
    assert recorder.requests[-1].engine == "ray"
    refused = deflow(*args, "--shard", "4/3")
    assert refused.exit_code == 2
    assert "the parts count from 1 to 3" in refused.output


def test_what_a_shard_says(deflow, folders, monkeypatch):
    recorder = Recorder(dataclasses.replace(REPORT, shard="2/3", written=5))
    monkeypatch.setattr(workflow, "make_pairs", recorder)
    lines = deflow("make-pairs", folders[0], "out", "--shard", "2/3").output.splitlines()
    assert lines[0] == "shard 2/3: 12 pairs of 3 images in out (folders), 5 of them made now"
    assert lines[1].endswith("when all shards are done: --merge")


def test_request_with_everything(deflow, folders, recorder):
    Path("run").mkdir()
    Path("run/model.safetensors").touch()
    args = ["--model", "run", "--scale", "3", "--temperature", "0.6:1.2", "--variants", "4", "--crop", "480"]
    args += ["--stride", "240", "--resize", "deflow", "--kernels", folders[0], "--kernel-sampling", "direct"]
    args += ["--format", "lmdb", "--seed", "9", "--workers", "5", "--dry-run", "--overwrite"]
    args += ["--degrader", "noise-patches", "--noisy", folders[1], "--clean", folders[0], "--sigma", "8"]
    args += ["--flattest", "0.25", "--patch-size", "64", "--patch-variance", "50", "--patch-mean", "30"]
    result = deflow("make-pairs", folders[0], "out", *args, "--device", "cuda:1")
    assert result.exit_code == 0, result.output
    assert recorder.requests == [
        workflow.MakePairsRequest(
            folders[0],
            Path("out"),
            PairSettings(3, 480, 240, 4, (0.6, 1.2), "deflow", "direct", "lmdb", 9),
            DegraderChoice(
                "noise-patches",
                model=Path("run/model.safetensors"),
                sigma=8,
                noisy=folders[1],
                clean=folders[0],
                flattest=0.25,
                patch_size=64,
                patch_variance=50,
                patch_mean=30,
            ),
            kernels=folders[0],
            workers=5,
            device="cuda:1",
            dry_run=True,
            overwrite=True,
        )
    ]


def test_a_manifest_goes_with_places_alone(deflow, folders, recorder):
    Path("m.safetensors").touch()
    args = ["--manifest", "deflow.json", "--model", "m.safetensors", "--noisy", folders[1], "--workers", "2"]
    assert deflow("make-pairs", folders[0], "out", *args).exit_code == 0
    request = recorder.requests[0]
    assert request.manifest == Path("deflow.json")
    assert request.degrader == DegraderChoice(model=Path("m.safetensors"), noisy=folders[1])
    for option in (["--scale", "4"], ["--seed", "0"], ["--degrader", "deflow"], ["--crop", "480"]):
        result = deflow("make-pairs", folders[0], "out", *args, *option)
        assert result.exit_code == 2
        assert f"{option[0]} and --manifest" in result.stderr
    assert len(recorder.requests) == 1


def test_says_what_there_is(deflow, folders, recorder):
    out = deflow("make-pairs", folders[0], "out").stdout
    assert "12 pairs of 3 images in out (folders)" in out
    assert "gt 480x320 to 480x480, lq 120x80 to 120x120; 1:01" in out
    assert "images: 1 left out" in out
    assert "degrader: deflow: m.safetensors (embedded)" in out
    recorder.answer = REPORT.__class__(**{**vars(REPORT), "written": 5})
    assert "7 of them before" in deflow("make-pairs", folders[0], "out").stdout
    recorder.answer = REPORT.__class__(**{**vars(REPORT), "written": 0})
    assert "are in out (folders) already" in deflow("make-pairs", folders[0], "out").stdout


def test_says_what_there_would_be(deflow, folders, recorder):
    estimate = workflow.Estimate(90.0, 2_500_000, 4_000_000_000)
    recorder.answer = REPORT.__class__(**{**vars(REPORT), "written": 0, "estimate": estimate})
    out = deflow("make-pairs", folders[0], "out", "--dry-run").stdout
    assert "would write 12 pairs of 3 images to out (folders)" in out
    assert "about 2.5 MB; 4.0 GB are free" in out
    assert "about 1:30 with 2 workers" in out


def test_json(deflow, folders, recorder):
    record = json.loads(deflow("make-pairs", folders[0], "out", "--json").stdout)
    assert (record["pairs"], record["target"], record["left_out"]) == (12, "out", [["bad.png", "truncated"]])


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--scale", "5"], 2, ["scale 5", "1, 2, 3, 4, 8"]),
        (["--temperature", "hot"], 2, ["'hot'", "0.6:1.2"]),
        (["--crop", "50"], 2, ["crop 50", "--crop 48"]),
        (["--stride", "24"], 2, ["without a crop"]),
        (["--resize", "lanczos"], 2, ["'lanczos'", "matlab-double"]),
        (["--format", "zip"], 2, ["'zip'", "webdataset"]),
        (["--degrader", "blur"], 2, ["'blur'", "noise-patches"]),
        (["--degrader", "white-noise"], 2, ["--noisy DIR or --sigma"]),
        (["--degrader", "spectral"], 2, ["--noisy DIR"]),
        (["--noisy", "nowhere"], 1, ["nowhere: no such folder", "--noisy"]),
        (["--kernels", "nowhere"], 1, ["nowhere: no such folder", "--kernels"]),
        (["--model", "none.safetensors"], 1, ["none.safetensors: no such model"]),
        (["--device", "gpu"], 2, ["'gpu'"]),
    ],
)
def test_wrong_options_name_value_and_expectation(deflow, folders, recorder, args, code, words):
    result = deflow("make-pairs", folders[0], "out", *args)
    assert (result.exit_code, recorder.requests) == (code, [])
    for word in words:
        assert word in result.stderr


def test_missing_source_is_named(deflow, recorder):
    result = deflow("make-pairs", "nowhere", "out")
    assert (result.exit_code, recorder.requests) == (1, [])
    assert "nowhere: no such file or folder" in result.stderr
