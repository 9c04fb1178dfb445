"""`deflow export`: files that other programs read, their entry for OpenModelDB, and what is refused."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from spandrel import ModelLoader
from typer.testing import Result

from deflow_cli.checkpoints.format import save_model
from deflow_cli.checkpoints.restorer import load_restorer, save_restorer
from deflow_cli.checkpoints.srflow.files import save_srflow
from deflow_cli.checkpoints.translation.files import save_translator
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.data.jpeg_history import FolderCompression, JpegSetting
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.paths import weights_folder
from tests.checkpoints.onnx.running import session
from tests.checkpoints.onnx.test_translator import NETWORKS
from tests.checkpoints.onnx.test_translator import network as translator
from tests.inference.small import build
from tests.inference.small_srflow import started_srflow

Deflow = Callable[..., Result]
EMBEDDED = weights_folder() / "camera-noise.safetensors"


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
        (["run", "m.bin"], 2, ["m.bin", ".pth"]),
        (["run", "m.pth", "--format", "tflite"], 2, ["'tflite'", "basicsr", "safetensors"]),
        (["run", "m.pth", "--format", "onnx"], 2, ["m.pth", "m.onnx"]),
        (["run", "m.onnx", "--seed", "3"], 2, ["--seed", "gives no samples"]),
        (["run", "m.onnx", "--tag", "photo"], 2, ["--tag"]),
        (["run", "m.pth", "--noise", "input"], 2, ["--noise"]),
        (["run", "m.onnx", "--noise", "some"], 2, ["'some'", "graph"]),
        (["run", "m.onnx", "more"], 2, ["more"]),
        (["run", "m.onnx", "--model", "run"], 2, ["two models"]),
        (["wtp", "host", "--model", "run"], 1, ["run", "no such model"]),
        (["wtp", "host", "--model", "run", "--seed", "3"], 2, ["--seed"]),
        (["run", "host", "--format", "wtp", "--license", "MIT"], 2, ["--license"]),
        (["m.pth"], 2, ["the model to export is missing"]),
        (["here", "m.onnx"], 1, ["here", "no such model"]),
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


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A corner of a packaged photograph, with sides that the flow has to pad."""
    source = weights_folder() / "photos" / "clean" / "cat-wide.png"
    (tmp_path / "clean").mkdir()
    with Image.open(source) as image:
        image.convert("RGB").crop((0, 0, 91, 78)).save(tmp_path / "clean/cat.png")
    return tmp_path / "clean/cat.png"


def test_the_embedded_model_as_onnx_gives_what_degrade_writes(
    deflow: Deflow, tmp_path: Path, photograph: Path
) -> None:
    options = ["--model", EMBEDDED, "--seed", 3, "--key", "cat.png", "--license", "CC0-1.0"]
    result = deflow("export", "degrader.onnx", *options)
    assert result.exit_code == 0, result.output
    size = (tmp_path / "degrader.onnx").stat().st_size / 1e6
    assert f"written: degrader.onnx (degradation, x1, opset 18, {size:.1f} MB)" in result.stdout
    assert 5 < size < EMBEDDED.stat().st_size / 1e6  # matrices and normalisations are folded together
    done = deflow("degrade", "clean", "noisy", "--model", EMBEDDED, "--seed", 3, "--compression", "no")
    assert done.exit_code == 0, done.output
    clean = np.asarray(Image.open(photograph), np.float32) / 255
    found = session(tmp_path / "degrader.onnx").run(None, {"image": clean.transpose(2, 0, 1)[None]})[0]
    written = np.asarray(Image.open(tmp_path / "noisy/cat.png")).astype(int)
    levels = np.round(found[0].transpose(1, 2, 0) * 255).astype(int)
    # a value within rounding of a half falls to either side
    assert np.abs(levels - written).max() <= 1
    assert (levels != written).mean() < 1e-3
    assert np.abs(written - np.round(clean * 255)).mean() > 1


def test_what_an_onnx_file_says_of_itself(deflow: Deflow, tmp_path: Path, run_folder: Path) -> None:
    named = ["--name", "Night 4x", "--license", "MIT", "--json"]
    result = deflow("export", "m.onnx", "--model", run_folder, *named)
    report = json.loads(result.stdout)
    assert (report["kind"], report["scale"], report["opset"]) == ("restorer", 4, 18)
    assert report["bytes"] == (tmp_path / "m.onnx").stat().st_size
    assert deflow("export", run_folder, "n.onnx", *named).exit_code == 0
    assert (tmp_path / "n.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()
    told = {entry.key: entry.value for entry in onnx.load(tmp_path / "m.onnx").metadata_props}
    told.pop("deflow.date")
    assert told.pop("deflow.version")
    assert told == {
        "deflow.title": "Night 4x",
        "deflow.author": "ann",
        "deflow.license": "MIT",
        "deflow.description": "Restores degraded photographs",
        "deflow.kind": "restorer",
        "deflow.scale": "4",
    }
    assert str(tmp_path).encode() not in (tmp_path / "m.onnx").read_bytes()


def test_an_srflow_as_onnx_gives_what_restore_writes(
    deflow: Deflow, tmp_path: Path, photograph: Path
) -> None:
    save_srflow(tmp_path / "s.safetensors", started_srflow(), {"license": "MIT"})
    named = ["--seed", 3, "--key", "cat.png", "--temperature", 0.6]
    assert deflow("export", "s.safetensors", "s.onnx", *named).exit_code == 0
    done = deflow("restore", "clean", "large", "--model", "s.safetensors", "--seed", 3, "--temperature", 0.6)
    assert done.exit_code == 0, done.output
    small = np.asarray(Image.open(photograph), np.float32) / 255
    found = session(tmp_path / "s.onnx").run(None, {"image": small.transpose(2, 0, 1)[None]})[0]
    written = np.asarray(Image.open(tmp_path / "large/cat.png")).astype(int)
    levels = np.round(found[0].transpose(1, 2, 0) * 255).astype(int)
    assert np.abs(levels - written).max() <= 1
    assert (levels != written).mean() < 1e-3


@pytest.mark.parametrize("name", ["dsgan", "cyclegan"])
def test_a_baseline_as_onnx_gives_what_degrade_writes(
    deflow: Deflow, tmp_path: Path, photograph: Path, name: str
) -> None:
    save_translator(tmp_path / "run/model.safetensors", translator(NETWORKS[name]), name, {"license": "MIT"})
    result = deflow("export", "m.onnx", "--model", "run")
    assert result.exit_code == 0, result.output
    assert f"written: m.onnx (degradation by {name}, x1, opset 18" in result.stdout
    assert ("means over the whole image" in result.stderr) == (name == "cyclegan")
    assert deflow("degrade", "clean", "noisy", "--model", "run").exit_code == 0
    clean = np.asarray(Image.open(photograph), np.float32) / 255
    found = session(tmp_path / "m.onnx").run(None, {"image": clean.transpose(2, 0, 1)[None]})[0]
    written = np.asarray(Image.open(tmp_path / "noisy/cat.png")).astype(int)
    levels = np.round(found[0].transpose(1, 2, 0) * 255).astype(int)
    assert np.abs(levels - written).max() <= 1
    assert (levels != written).mean() < 1e-3
    assert np.abs(written - np.round(clean * 255)).mean() > 1


def test_a_baseline_that_shrinks_says_so(deflow: Deflow, tmp_path: Path, photograph: Path) -> None:
    facts = {"license": "MIT", "title": "Small", "clean_fingerprint": "abc"}
    save_translator(tmp_path / "d.safetensors", translator(NETWORKS["dasr x4"]), "dasr", facts)
    result = deflow("export", "d.safetensors", "d.onnx")
    assert "written: d.onnx (degradation by dasr, x1/4, opset 18" in result.stdout
    report = json.loads(deflow("export", "d.safetensors", "d.onnx", "--json").stdout)
    assert (report["kind"], report["method"], report["shrinks"]) == ("degradation", "dasr", 4)
    told = {entry.key: entry.value for entry in onnx.load(tmp_path / "d.onnx").metadata_props}
    assert (told["deflow.method"], told["deflow.shrinks"], told["deflow.title"]) == ("dasr", "4", "Small")
    assert "abc" not in told.values()
    (given,) = session(tmp_path / "d.onnx").get_outputs()
    assert given.shape == ["N", 3, "small_H", "small_W"]
    made = deflow("make-pairs", "clean", "pairs", "--model", "d.safetensors", "--scale", 4)
    assert made.exit_code == 0, made.output
    clean = np.asarray(Image.open(photograph), np.float32)[:76, :88] / 255  # as pairs are cut
    found = session(tmp_path / "d.onnx").run(None, {"image": clean.transpose(2, 0, 1)[None]})[0]
    (written,) = (np.asarray(Image.open(path)).astype(int) for path in (tmp_path / "pairs/lq").iterdir())
    levels = np.round(found[0].transpose(1, 2, 0) * 255).astype(int)
    assert np.abs(levels - written).max() <= 1


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["t.safetensors", "t.onnx", "--seed", "3"], 2, ["--seed", "gives no samples"]),
        (["t.safetensors", "t.onnx", "--fixed"], 2, ["--fixed", "gives no samples"]),
        (["t.safetensors", "t.pth"], 1, ["t.safetensors", "a degradation model, not a restorer"]),
        (["wtp", "host", "--model", "t.safetensors"], 1, ["t.safetensors", "dsgan"]),
    ],
)
def test_what_a_baseline_cannot_be_exported_as(
    deflow: Deflow, tmp_path: Path, args: list[str], code: int, words: list[str]
) -> None:
    save_translator(tmp_path / "t.safetensors", translator(NETWORKS["dsgan"]), "dsgan", {})
    result = deflow("export", *args)
    assert result.exit_code == code, result.output
    for word in words:
        assert word in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["t.safetensors"]


def test_onnx_cannot_compress_and_says_so(deflow: Deflow, tmp_path: Path) -> None:
    compression = FolderCompression(1, ((JpegSetting.of_quality(60), 1.0),)).to_dict()
    save_model(tmp_path / "m.safetensors", build(), {"compression": compression})
    result = deflow("export", "m.onnx", "--model", "m.safetensors")
    assert result.exit_code == 0, result.output
    assert "a graph cannot, so do it afterwards" in " ".join(result.stderr.split())


def test_onnx_without_the_package(
    deflow: Deflow, tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = deflow("export", run_folder, "m.onnx")
    assert result.exit_code == 2
    assert "pip install 'deflow-cli[onnx]'" in result.stderr
    assert not (tmp_path / "m.onnx").exists()
