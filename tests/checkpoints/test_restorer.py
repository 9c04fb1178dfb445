"""Restorer files: every dialect read and written, the same function in spandrel, misfits named."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from deflow_cli.checkpoints.esrgan.export import EXPORTS, caveats, export_restorer, open_model_db
from deflow_cli.checkpoints.esrgan.files import restorer_from_state
from deflow_cli.checkpoints.esrgan.keys import DIALECTS, layer_names, tensor_names
from deflow_cli.checkpoints.format import load_model, save_model
from deflow_cli.checkpoints.restorer import load_restorer, save_restorer
from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import CheckpointError, ConfigError, DataError
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.paths import RESTORER_FILE

State = dict[str, Tensor]


def network(seed: int = 4, **sizes: int) -> RRDBNet:
    """A small generator whose every tensor counts in its output."""
    generator = torch.Generator().manual_seed(seed)
    model = RRDBNet(RestorerConfig(**{"channels": 8, "blocks": 2} | sizes), generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.08, generator=generator)
    return model


def image(height: int = 7, width: int = 10, channels: int = 3) -> Tensor:
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(2))


def named(model: RRDBNet, dialect: str) -> State:
    names = tensor_names(DIALECTS[dialect], model.config.blocks, model.config.doublings)
    return {names[key]: value.detach() for key, value in model.state_dict().items()}


def write(content: Any, path: Path) -> Path:
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


def assert_same(a: RRDBNet, b: RRDBNet) -> None:
    assert a.config == b.config
    ours, theirs = a.state_dict(), b.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


# -- other programs' reader ---------------------------------------------------------------------------

FORMS = [
    {"scale": 4},
    {"scale": 2},
    {"scale": 1},
    {"scale": 2, "unshuffle": 1},
    {"scale": 1, "unshuffle": 1},
    {"scale": 8},
    {"scale": 4, "blocks": 1, "channels": 16},
    {"scale": 1, "unshuffle": 2},
    {"scale": 4, "image_channels": 1},
]


@pytest.mark.parametrize("sizes", FORMS, ids=str)
@torch.no_grad()
def test_spandrel_and_we_read_all_that_we_write(sizes: dict[str, int], tmp_path: Path) -> None:
    spandrel = pytest.importorskip("spandrel")
    model = network(**sizes)
    x = image(channels=model.config.image_channels)
    expected = model(x)
    assert expected.std() > 0.01
    save_restorer(tmp_path / RESTORER_FILE, model, {"steps": 3})
    for dialect in EXPORTS:
        export_restorer(model, tmp_path / f"{dialect}.pth", dialect)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 4
    for file in files:
        ours, _ = load_restorer(file)
        assert_same(ours, model)
        theirs = spandrel.ModelLoader().load_from_file(file)
        assert theirs.architecture.id == "ESRGAN"
        assert (theirs.scale, theirs.input_channels) == (model.scale, model.config.image_channels)
        assert (theirs.model.eval()(x) - expected).abs().max() < 1e-6, file.name


@torch.no_grad()
def test_another_growth_works_with_ours_though_not_with_spandrel(tmp_path: Path) -> None:
    spandrel = pytest.importorskip("spandrel")
    model = network(growth_channels=16)
    notes = export_restorer(model, tmp_path / "grown.pth")
    assert_same(load_restorer(tmp_path / "grown.pth")[0], model)
    assert len(notes) == 1
    assert "16" in notes[0]
    with pytest.raises(RuntimeError):
        spandrel.ModelLoader().load_from_file(tmp_path / "grown.pth")


# -- reading ------------------------------------------------------------------------------------------


def test_names_are_those_of_the_three_programs() -> None:
    new, mid, old = (layer_names(dialect, 23, 2) for dialect in DIALECTS.values())
    assert all(ours == theirs for ours, theirs in new.items())
    assert list(new) == [key.removesuffix(".weight") for key in _meta_keys() if key.endswith(".weight")]
    picked = ("conv_first", "body.22.rdb3.conv5", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last")
    assert [mid[key] for key in picked] == [
        "conv_first", "RRDB_trunk.22.RDB3.conv5", "trunk_conv", "upconv1", "upconv2", "HRconv", "conv_last"
    ]  # fmt: skip
    assert [old[key] for key in picked] == [
        "model.0", "model.1.sub.22.RDB3.conv5.0", "model.1.sub.23",
        "model.3", "model.6", "model.8", "model.10",
    ]  # fmt: skip
    for doublings, tail in ((0, ["2", "4"]), (1, ["3", "5", "7"]), (3, ["3", "6", "9", "11", "13"])):
        names = list(layer_names(DIALECTS["old"], 1, doublings).values())
        assert names[-len(tail) :] == [f"model.{place}" for place in tail]


def _meta_keys() -> list[str]:
    with torch.device("meta"):
        return list(RRDBNet(RestorerConfig()).state_dict())


@pytest.mark.parametrize("container", [None, "params_ema", "params", "state_dict", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "netG."])
@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_containers_and_prefixes(container: str | None, prefix: str, dialect: str, tmp_path: Path) -> None:
    model = network(blocks=1, channels=4, growth_channels=2)
    content: Any = {prefix + key: value for key, value in named(model, dialect).items()}
    path = write({container: content, "iter": 5} if container else content, tmp_path / "a.pth")
    loaded, facts = load_restorer(path)
    assert_same(loaded, model)
    assert facts == {"title": "a", "dialect": dialect}
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_averaged_weights_come_first(tmp_path: Path) -> None:
    averaged, last = network(1), network(2)
    content = {"params": named(last, "new"), "params_ema": named(averaged, "new")}
    assert_same(load_restorer(write(content, tmp_path / "both.pth"))[0], averaged)


@pytest.mark.parametrize("dialect", list(DIALECTS))
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loads_as_float32(
    dialect: str, suffix: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    model = network()
    half = {key: value.to(dtype) for key, value in named(model, dialect).items()}
    loaded, _ = load_restorer(write(half, tmp_path / f"half.{suffix}"))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[key].to(dtype).float())


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_missing_unexpected_and_misshapen_tensors_are_named(dialect: str, tmp_path: Path) -> None:
    state = named(network(blocks=2, channels=4, growth_channels=2), dialect)
    keys = list(state)
    # the very first dense convolution tells the dialect; every other is missed under its own name
    telling = DIALECTS[dialect].dense.format(block=0, rdb=1, conv=1) + ".weight"
    for key in (keys[0], keys[3], keys[30], keys[-9], keys[-4], keys[-1]):
        assert key != telling
        path = write({k: v for k, v in state.items() if k != key}, tmp_path / "short.pth")
        with pytest.raises(CheckpointError, match=rf"short\.pth: .*missing {re.escape(key)}"):
            load_restorer(path)
    path = write(state | {"surprise.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match=r"more\.pth: .*unexpected surprise\.weight"):
        load_restorer(path)
    for key in (keys[1], keys[20], keys[-5]):
        path = write(state | {key: torch.zeros(2, 3)}, tmp_path / "bent.pth")
        with pytest.raises(CheckpointError, match=rf"bent\.pth: .*{re.escape(key)} is \(2, 3\)"):
            load_restorer(path)
    for shape in ((4,), (4, 5, 3, 3), (0, 3, 3, 3), ()):
        path = write(state | {keys[0]: torch.zeros(shape)}, tmp_path / "first.pth")
        with pytest.raises(CheckpointError, match=rf"first\.pth: .*{re.escape(keys[0])}"):
            load_restorer(path)


def test_names_that_promise_more_than_the_file_holds() -> None:
    state = named(network(), "new") | {"body.99999999.rdb1.conv1.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="cannot be"):
        restorer_from_state(state)


def test_shapes_that_promise_more_than_the_file_holds() -> None:
    """A small file whose sizes would need terabytes is refused, not built."""
    state = named(network(blocks=1, channels=4), "new")
    state["conv_first.weight"] = torch.zeros(1, 1, 1, 1).expand(1_000_000, 3, 3, 3)
    with pytest.raises(CheckpointError, match=r"conv_first\.bias is \(4,\), expected \(1000000,\)"):
        restorer_from_state(state)


def test_files_that_are_no_restorer(tmp_path: Path) -> None:
    path = write({"conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors: not ESRGAN weights"):
        load_restorer(path)
    with pytest.raises(CheckpointError, match=r"absent\.pth: no such file"):
        load_restorer(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(CheckpointError, match=r"text\.pth: cannot be read"):
        load_restorer(tmp_path / "text.pth")
    encoder = EncoderConfig(channels=4, growth_channels=2, blocks=1, stacked_blocks=(0,))
    flow = DeFlow(ModelConfig(FlowConfig(levels=2, steps=1, hidden_channels=4), encoder))
    save_model(tmp_path / "model.safetensors", flow, {})
    with pytest.raises(CheckpointError, match=r"model\.safetensors: a degradation model"):
        load_restorer(tmp_path / "model.safetensors")
    save_restorer(tmp_path / "r.safetensors", network(), {})
    with pytest.raises(CheckpointError, match=r"r\.safetensors: a restorer"):
        load_model(tmp_path / "r.safetensors")


# -- our own files ------------------------------------------------------------------------------------


def test_a_saved_file_carries_its_facts_and_nothing_else(tmp_path: Path) -> None:
    model = network(scale=2)
    facts = {
        "title": "Snow",
        "author": "A. Body",
        "license": "CC-BY-4.0",
        "step": 60_000,
        "data": {"sha256": "ab"},
        "lpips": 0.25,
    }
    path = tmp_path / "run" / RESTORER_FILE
    save_restorer(path, model, facts)
    assert [file.name for file in path.parent.iterdir()] == [RESTORER_FILE]  # no temporary is left
    assert set(load_file(path)) == set(model.state_dict())
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert metadata["modelspec.architecture"] == "esrgan"
    assert metadata["modelspec.license"] == "CC-BY-4.0"
    assert metadata["modelspec.title"] == "Snow"
    assert json.loads(metadata["deflow.config"]) == dataclasses.asdict(model.config)
    assert json.loads(metadata["deflow.training"]) == {k: facts[k] for k in ("step", "data", "lpips")}
    loaded, found = load_restorer(path.parent)  # its folder will do
    assert_same(loaded, model)
    assert facts.items() <= found.items()
    assert found["dialect"] == "new"
    assert found["version"]


def test_a_file_cut_to_a_smaller_scale_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / RESTORER_FILE
    save_restorer(path, network(), {})
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    state = {key: value for key, value in load_file(path).items() if not key.startswith("conv_up2")}
    save_file(state, path, metadata)
    with pytest.raises(CheckpointError, match=r"restorer\.safetensors: .*scale=2.*scale=4"):
        load_restorer(path)
    save_file(load_file(path), path, metadata | {"deflow.format": "2"})
    with pytest.raises(CheckpointError, match="format 2"):
        load_restorer(path)


def test_saving_keeps_the_older_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pth"
    export_restorer(network(1), path)

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("deflow_cli.checkpoints.format.os.fsync", full)
    with pytest.raises(DataError, match=r"a\.pth: cannot be written \(no space left\)"):
        export_restorer(network(2), path)
    monkeypatch.undo()
    assert_same(load_restorer(path)[0], network(1))
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


# -- exports ------------------------------------------------------------------------------------------


def test_exports_have_the_programs_containers(tmp_path: Path) -> None:
    model = network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    content = {}
    for dialect in EXPORTS:
        assert export_restorer(model, tmp_path / "a.pth", dialect) == []
        content[dialect] = torch.load(tmp_path / "a.pth", weights_only=True)
    assert list(content["basicsr"]) == ["params_ema"]
    assert "body.1.rdb3.conv5.weight" in content["basicsr"]["params_ema"]
    assert "RRDB_trunk.1.RDB3.conv5.weight" in content["realsr"]
    assert "model.1.sub.1.RDB3.conv5.0.weight" in content["esrgan"]
    assert all(value.is_contiguous() and not value.requires_grad for value in content["realsr"].values())


def test_caveats_name_the_programs() -> None:
    assert caveats(RestorerConfig(scale=2), "basicsr") == []
    assert "Real-ESRGAN" in caveats(RestorerConfig(scale=2, unshuffle=1), "basicsr")[0]
    assert "RealSR" in caveats(RestorerConfig(scale=2), "realsr")[0]
    assert len(caveats(RestorerConfig(scale=8, growth_channels=8), "basicsr")) == 2


def test_exports_that_no_program_reads(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="onnx"):
        export_restorer(network(), tmp_path / "a.pth", "onnx")
    with pytest.raises(ConfigError, match=r"a\.bin"):
        export_restorer(network(), tmp_path / "a.bin")
    assert not list(tmp_path.iterdir())


def test_the_entry_of_the_data_base(tmp_path: Path) -> None:
    model, path = network(scale=2), tmp_path / "snow.pth"
    export_restorer(model, path)
    about: dict[str, Any] = {
        "author": "a-body",
        "license_id": "CC-BY-4.0",
        "description": "Removes snow.",
        "date": date(2026, 11, 3),
    }
    key, entry = open_model_db(path, model.config, name="Snow, gone!", urls=["https://x.org/a.pth"], **about)
    assert key == "2x-Snow-gone"
    assert json.loads(json.dumps(entry)) == {
        "name": "Snow, gone!",
        "author": "a-body",
        "license": "CC-BY-4.0",
        "tags": ["restoration"],
        "description": "Removes snow.",
        "date": "2026-11-03",
        "architecture": "esrgan",
        "size": ["8nf", "2nb"],
        "scale": 2,
        "inputChannels": 3,
        "outputChannels": 3,
        "resources": [
            {
                "platform": "pytorch",
                "type": "pth",
                "size": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "urls": ["https://x.org/a.pth"],
            }
        ],
        "images": [],
    }
    with pytest.raises(ConfigError, match="neither"):
        open_model_db(path, model.config, name="!", **about)
    with pytest.raises(CheckpointError, match="no such file"):
        open_model_db(tmp_path / "b.pth", model.config, name="b", **about)
