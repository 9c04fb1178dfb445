"""`deflow export`: files that other programs read, their entry for OpenModelDB, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from spandrel import ModelLoader
from typer.testing import Result

from deflow_cli.checkpoints.restorer import load_restorer, save_restorer
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.models.esrgan.generator import RRDBNet

Deflow = Callable[..., Result]


def network(scale: int = 4, growth: int = 32) -> RRDBNet:
    config = RestorerConfig(scale=scale, channels=8, blocks=1, growth_channels=growth)
    return RRDBNet(config, torch.Generator().manual_seed(2)).eval()


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    facts = {"title": "Tiny", "author": "ann", "license": "Apache-2.0", "steps": 7}
    save_restorer(tmp_path / "run/restorer.safetensors", network(), facts)
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("m.pth", [], "body.0.rdb1.conv1.weight"),
        ("m.pth", ["--format", "realsr"], "RRDB_trunk.0.RDB1.conv1.weight"),
        ("m.pth", ["--format", "ESRGAN"], "model.1.sub.0.RDB1.conv1.0.weight"),
        ("m.safetensors", [], "body.0.rdb1.conv1.weight"),
    ],
)
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_others_load_every_format_and_compute_the_same(
    deflow: Deflow, tmp_path: Path, name: str, options: list[str], key: str, scale: int
) -> None:
    save_restorer(tmp_path / "restorer.safetensors", network(scale), {})
    result = deflow("export", ".", name, *options)
    assert result.exit_code == 0, result.output
    loaded = ModelLoader("cpu").load_from_file(str(tmp_path / name))
    image = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        assert torch.equal(loaded.model.eval()(image), network(scale)(image))
    assert (loaded.architecture.id, loaded.scale) == ("ESRGAN", scale)
    if name.endswith("pth"):
        state = torch.load(tmp_path / name, weights_only=True)
        assert key in (state.get("params_ema") or state)
        assert ("params_ema" in state) == (not options)


def test_a_safetensors_export_keeps_the_facts(deflow: Deflow, tmp_path: Path, run_folder: Path) -> None:
    result = deflow("export", run_folder, "m.safetensors", "--name", "Night 4x", "--author", "bob", "--json")
    report = json.loads(result.stdout)
    assert (report["path"], report["format"], report["scale"]) == ("m.safetensors", "safetensors", 4)
    _, facts = load_restorer(tmp_path / "m.safetensors")
    assert (facts["title"], facts["author"], facts["license"]) == ("Night 4x", "bob", "Apache-2.0")
    assert facts["steps"] == 7


def test_entry_of_openmodeldb(deflow: Deflow, tmp_path: Path, run_folder: Path) -> None:
    args = [
        "--openmodeldb",
        "entry.json",
        "--name",
        "Night Photo!",
        "--description",
        "noise",
        "--tag",
        "photo",
    ]
    args += ["--url", "https://example.org/m.pth"]
    result = deflow("export", run_folder, "m.pth", *args)
    assert result.exit_code == 0, result.output
    assert "OpenModelDB names this entry 4x-Night-Photo.json" in result.stderr
    entry = json.loads((tmp_path / "entry.json").read_text("utf-8"))
    assert (entry["name"], entry["author"], entry["license"]) == ("Night Photo!", "ann", "Apache-2.0")
    assert (entry["tags"], entry["description"], entry["scale"]) == (["photo"], "noise", 4)
    [resource] = entry["resources"]
    assert resource["sha256"] == hashlib.sha256((tmp_path / "m.pth").read_bytes()).hexdigest()
    assert resource["size"] == (tmp_path / "m.pth").stat().st_size
    assert resource["urls"] == ["https://example.org/m.pth"]
    (tmp_path / "db").mkdir()
    assert deflow("export", run_folder, "m.pth", "--openmodeldb", "db", "--id", "4x-own").exit_code == 0
    assert (tmp_path / "db/4x-own.json").is_file()


def test_programs_that_will_not_take_it_are_named(deflow: Deflow, tmp_path: Path) -> None:
    save_restorer(tmp_path / "s.safetensors", network(growth=16), {})
    result = deflow("export", "s.safetensors", "m.pth", "--json")
    assert result.exit_code == 0
    assert "growth" in result.stderr
    assert len(json.loads(result.stdout)["caveats"]) == 1


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["run", "m.onnx"], 2, ["m.onnx", ".pth"]),
        (["run", "m.pth", "--format", "onnx"], 2, ["'onnx'", "basicsr", "safetensors"]),
        (["run", "m.safetensors", "--format", "realsr"], 2, ["m.safetensors", "m.pth"]),
        (["run", "run/restorer.safetensors"], 1, ["is the model itself"]),
        (["nowhere", "m.pth"], 1, ["nowhere", "no such restorer"]),
        (["run", "m.pth", "--openmodeldb", "entry.txt"], 2, ["entry.txt", ".json"]),
        (["run", "m.pth", "--id", "a b/c"], 2, ["'a b/c'", "4x-My-Model"]),
        (["bare.pth", "m.pth", "--openmodeldb", "entry.json"], 2, ["author", "--author"]),
    ],
)
def test_what_is_refused_leaves_no_file(
    deflow: Deflow, tmp_path: Path, run_folder: Path, args: list[str], code: int, words: list[str]
) -> None:
    torch.save(network().state_dict(), tmp_path / "bare.pth")
    before = sorted(tmp_path.rglob("*"))
    result = deflow("export", *args)
    assert result.exit_code == code, result.output
    for word in words:
        assert word in result.stderr
    assert sorted(tmp_path.rglob("*")) == before
