"""`deflow inspect`, `import-weights` and `demo`: what they ask for and print."""

from __future__ import annotations

import json
from pathlib import Path


def test_inspect_prints_nested_values(deflow, inspect_workflow):
    Path("m.safetensors").touch()
    result = deflow("inspect", "m.safetensors")
    assert result.exit_code == 0, result.output
    for word in ("1234", "m.safetensors / flow", "levels", "0.5, 0.25"):
        assert word in result.stdout


def test_inspect_json(deflow, inspect_workflow):
    Path("m.safetensors").touch()
    record = json.loads(deflow("inspect", "m.safetensors", "--json").stdout)
    assert record == {"parameters": 1234, "flow": {"levels": 3, "spectrum": [0.5, 0.25]}, "nll": None}


def test_inspect_of_nothing(deflow, inspect_workflow):
    result = deflow("inspect", "none")
    assert (result.exit_code, inspect_workflow.requests) == (1, [])
    assert "none: no such model" in result.stderr


def test_inspect_takes_the_restorer_of_a_run(deflow, inspect_workflow):
    Path("run").mkdir()
    Path("run/restorer.safetensors").touch()
    assert deflow("inspect", "run").exit_code == 0
    Path("run/model.safetensors").touch()
    assert deflow("inspect", "run").exit_code == 0
    assert inspect_workflow.requests == [
        (Path("run/restorer.safetensors"),),
        (Path("run/model.safetensors"),),
    ]


def test_import_weights(deflow, import_workflow):
    Path("old.pth").touch()
    result = deflow("import-weights", "old.pth", "new.safetensors")
    assert result.exit_code == 0, result.output
    assert import_workflow.requests == [Path("old.pth")]
    assert "upper.weight" in result.stdout


def test_import_weights_takes_what_files_of_srflow_do_not_tell(deflow, import_workflow):
    Path("old.pth").touch()
    result = deflow("import-weights", "old.pth", "new.safetensors", "--blocks", "1, 3,5", "--eps", "0.001")
    assert result.exit_code == 0, result.output
    assert import_workflow.keywords == [{"stacked_blocks": (1, 3, 5), "affine_eps": 0.001}]
    result = deflow("import-weights", "old.pth", "new.safetensors", "--blocks", "1-3")
    assert result.exit_code == 2
    assert "--blocks 1-3: not a list of numbers" in result.stderr


def test_import_weights_writes_safetensors_alone(deflow, import_workflow):
    Path("old.pth").touch()
    result = deflow("import-weights", "old.pth", "new.pth")
    assert (result.exit_code, import_workflow.requests) == (2, [])
    assert "new.pth" in result.stderr


def test_demo(deflow, demo_workflow):
    result = deflow("demo", "--time-budget", "90s", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert demo_workflow.requests[0][:3] == (Path("deflow-demo"), 90.0, "cpu")
    assert "Look." in result.stdout
    assert "d/sheet.png" in result.stdout
