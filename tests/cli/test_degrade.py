"""`deflow degrade`: what the workflow is asked for, and what is refused before it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deflow_cli.cli.degradation.degrade import parse_temperature, parse_tile


def test_request_by_default(deflow, folders, degrade_workflow):
    assert deflow("degrade", folders[0], "out").exit_code == 0
    request = vars(degrade_workflow.requests[0])
    assert request == {
        "source": folders[0],
        "target": Path("out"),
        "model": None,
        "temperature": (1.0, 1.0),
        "samples": 1,
        "seed": 0,
        "reverse": False,
        "like": None,
        "compression": "auto",
        "tile": None,
        "ext": "auto",
        "skip_existing": False,
        "device": "auto",
        "clip": False,
        "temporal": 0.0,
        "sheet": None,
    }


def test_request_with_everything(deflow, folders, degrade_workflow):
    Path("run").mkdir()
    Path("run/model.safetensors").touch()
    Path("ref.png").touch()
    args = ["--model", "run", "--temperature", "0.6:1.2", "--samples", "4", "--seed", "9"]
    args += ["--reverse", "--like", "ref.png", "--compression", "no"]
    args += ["--tile", "256", "--ext", ".JPG", "--skip-existing", "--device", "cuda:1"]
    result = deflow("degrade", folders[0], "out", *args)
    assert result.exit_code == 0, result.output
    request = degrade_workflow.requests[0]
    assert request.compression == "no"
    assert (request.model, request.like) == (Path("run/model.safetensors"), Path("ref.png"))
    assert (request.temperature, request.samples, request.seed) == ((0.6, 1.2), 4, 9)
    assert (request.reverse, request.tile, request.ext) == (True, 256, "jpg")
    assert (request.skip_existing, request.device) == (True, "cuda:1")


def test_restoring_is_the_posterior_mean_unless_a_temperature_is_given(deflow, folders, degrade_workflow):
    for args in ([], ["--reverse"], ["--reverse", "--temperature", "0.5"]):
        assert deflow("degrade", folders[0], "out", *args).exit_code == 0
    temperatures = [request.temperature for request in degrade_workflow.requests]
    assert temperatures == [(1.0, 1.0), (0.0, 0.0), (0.5, 0.5)]


def test_clips_sheets_and_strengths(deflow, folders, degrade_workflow):
    args = ["--strength", "0.5:0.9", "--clip", "--temporal", "0.25", "--sheet", "s.png"]
    assert deflow("degrade", folders[0], "out", *args).exit_code == 0
    request = degrade_workflow.requests[0]
    assert (request.temperature, request.sheet) == ((0.5, 0.9), Path("s.png"))
    assert (request.clip, request.temporal) == (True, 0.25)


def test_says_which_model_and_how_many(deflow, folders, degrade_workflow):
    out = deflow("degrade", folders[0], "out").stdout
    assert "2 written to out" in out
    assert "m.safetensors (embedded)" in out


def test_failures_are_told_and_exit_1(deflow, folders, degrade_workflow):
    degrade_workflow.answer.failed = [(Path("bad.png"), "truncated")]
    result = deflow("degrade", folders[0], "out", "--json")
    assert result.exit_code == 1
    assert "failed: bad.png: truncated" in result.stderr
    record = json.loads(result.stdout)
    assert record["failed"] == [["bad.png", "truncated"]]
    assert record["records"][0]["targets"] == ["out/a_1.png", "out/a_2.png"]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--temperature", "hot"], 2, ["'hot'", "0.6:1.2"]),
        (["--compression", "yes"], 2, ["'yes'", "auto or no"]),
        (["--strength", "1", "--temperature", "1"], 2, ["--strength", "leave one"]),
        (["--temporal", "0.5"], 2, ["--temporal", "add --clip"]),
        (["--clip", "--reverse"], 2, ["--clip", "--reverse"]),
        (["--sheet", "s.png", "--reverse"], 2, ["--sheet", "--reverse"]),
        (["--temperature", "1.2:0.6"], 2, ["'1.2:0.6'", "rising"]),
        (["--temperature", "-1"], 2, ["'-1'"]),
        (["--tile", "big"], 2, ["'big'", "auto"]),
        (["--model", "none.safetensors"], 1, ["none.safetensors", "no such model"]),
        (["--model", "."], 1, ["a folder without model.safetensors"]),
        (["--like", "none.png"], 1, ["none.png"]),
    ],
)
def test_wrong_options_name_value_and_expectation(deflow, folders, degrade_workflow, args, code, words):
    result = deflow("degrade", folders[0], "out", *args)
    assert (result.exit_code, degrade_workflow.requests) == (code, [])
    for word in words:
        assert word in result.stderr


def test_missing_source_is_named(deflow, degrade_workflow):
    result = deflow("degrade", "nowhere", "out")
    assert (result.exit_code, degrade_workflow.requests) == (1, [])
    assert "nowhere: no such file or folder" in result.stderr


def test_values():
    assert parse_temperature("0") == (0.0, 0.0)
    assert parse_temperature("0.5:0.5") == (0.5, 0.5)
    assert [parse_tile(text) for text in ("auto", "0", "512")] == [None, 0, 512]
