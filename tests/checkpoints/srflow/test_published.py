"""Published SRFlow files: every key finds its tensor, and a file is written again as it came."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from deflow_cli.checkpoints.esrgan.keys import MID, tensor_names
from deflow_cli.checkpoints.foreign import load_encoder, unused_beside
from deflow_cli.checkpoints.restorer import load_restorer
from deflow_cli.checkpoints.srflow.files import save_srflow, spare_tensors
from deflow_cli.checkpoints.srflow.published import (
    PublishedSRFlow,
    detect_published_srflow,
    export_srflow,
    load_published_srflow,
    published_srflow_layout,
)
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.models.srflow.model import SRFlow
from tests.checkpoints.srflow.published_files import State, config, published_state
from tests.golden.full import FOLDER, needs_golden

FULL_SIZES = {"DF2K_4X": 39_541_811, "DF2K_8X": 50_821_891, "CelebA_8X": 40_030_531}
STACKS = {"DF2K_4X": (1, 8, 15, 22), "DF2K_8X": (1, 3, 5, 7), "CelebA_8X": (1, 3, 5, 7)}
TELLING = ("RRDB.conv_first.weight", "flowUpsamplerNet.layers.3.affine.fAffine.0.weight")
F_WEIGHT = "flowUpsamplerNet.f.0.weight"


def assert_same(found: State, expected: State) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize(
    "flow",
    [
        {"levels": 2},
        {"levels": 3},
        {"levels": 3, "splits": "all"},
        {"levels": 3, "splits": "none"},
        {"scale": 8, "levels": 4},
        {"scale": 2, "levels": 2, "steps": 1},
        {"levels": 3, "transition_steps": 1, "hidden_channels": 6},
    ],
    ids=str,
)
def test_a_file_is_read_and_written_as_it_came(flow: dict[str, Any], tmp_path: Path) -> None:
    wanted = config(**flow)
    state = published_state(wanted)
    loaded = load_published_srflow(state)
    assert loaded.model.config == wanted
    assert not loaded.model.training
    assert loaded.layout == "published"
    assert loaded.unused == sorted(unused_beside(loaded.model.encoder, 3))
    path = tmp_path / "out.pth"
    caveats = export_srflow(loaded.model, path, spare_tensors(loaded.model, state))
    assert not any("zeros" in caveat for caveat in caveats)
    assert_same(torch.load(path, weights_only=True), state)


def test_spare_tensors_travel_in_our_file(tmp_path: Path) -> None:
    state, ours = published_state(config()), tmp_path / "restorer.safetensors"
    loaded = load_published_srflow(state)
    save_srflow(ours, loaded.model, {}, spare_tensors(loaded.model, state))
    again, _ = load_restorer(ours)
    assert isinstance(again, SRFlow)
    export_srflow(again, tmp_path / "out.pth", spare_tensors(again, load_file(ours)))
    assert_same(torch.load(tmp_path / "out.pth", weights_only=True), state)


def test_a_model_without_spare_tensors_gets_zeros(tmp_path: Path) -> None:
    model = SRFlow(config())
    caveats = export_srflow(model, tmp_path / "out.pth", {})
    assert caveats == [
        "the file does not tell that the blocks 0, 1 are stacked: name them in its configuration",
        "the authors' program builds 64 hidden channels and 320 features; this model has 8 and 24",
        "8 tensors that no computation reads are zeros",
    ]
    loaded = load_published_srflow(torch.load(tmp_path / "out.pth", weights_only=True)).model
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


@pytest.mark.parametrize(
    "choice",
    [
        {"form": "inverted"},
        {"pointwise": "lu"},
        {"affine": "bounded"},
        {"affine": "bounded", "coupling_bound": 0.1},
        {"condition_channels": 4},
        {"residual": "bicubic"},
        {"noise": "strength"},
    ],
    ids=str,
)
def test_models_that_the_layout_cannot_hold(choice: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the published layout cannot hold"):
        export_srflow(SRFlow(config(**choice)), tmp_path / "out.pth", {})
    assert not list(tmp_path.iterdir())


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.pth files"):
        export_srflow(SRFlow(config()), tmp_path / "out.safetensors", {})


def test_load_restorer_reads_a_published_file(tmp_path: Path) -> None:
    path = tmp_path / "SRFlow.pth"
    state = published_state(config(blocks=23, stacked=(1, 8, 15, 22), steps=1, levels=2))
    torch.save(OrderedDict((f"module.{key}", value) for key, value in state.items()), path)
    heard: list[str] = []
    model, facts = load_restorer(path, tell=heard.append)
    assert heard[-1].startswith(f"{path}: does not tell all, assumed: stacked blocks 1, 8, 15, 22; ")
    assert isinstance(model, SRFlow)
    assert model.config.encoder.stacked_blocks == (1, 8, 15, 22)
    assert facts["dialect"] == "published"
    assert facts["assumed"] == [
        "stacked blocks 1, 8, 15, 22",
        "scales of at least 0.0001",
        "training without noise on the images",
    ]
    key = "flow.layers.1.invconv.weight"
    assert torch.equal(model.state_dict()[key], state["flowUpsamplerNet.layers.1.invconv.weight"])


# -- what the file does not tell ----------------------------------------------------------------------


def test_stacked_blocks_and_the_least_scale_can_be_given() -> None:
    state = published_state(config(blocks=5, stacked=(0, 1, 3, 4)))
    with pytest.raises(CheckpointError, match="5 encoder blocks of which 4 are stacked") as caught:
        load_published_srflow(state)
    assert "--blocks" in caught.value.next_step
    loaded = load_published_srflow(state, stacked_blocks=(0, 1, 3, 4), affine_eps=1e-3)
    assert loaded.model.config.encoder.stacked_blocks == (0, 1, 3, 4)
    assert loaded.model.config.srflow.affine_eps == 1e-3
    assert loaded.assumed == ["training without noise on the images"]
    with pytest.raises(ConfigError, match="3 stacked blocks are given, the file's flow sees 4"):
        load_published_srflow(state, stacked_blocks=(0, 1, 3))
    with pytest.raises(ConfigError, match="names block 5"):
        load_published_srflow(state, stacked_blocks=(0, 1, 3, 5))


@pytest.mark.parametrize(("blocks", "scale"), [(23, 4), (23, 8), (8, 8)])
def test_stacked_blocks_by_the_authors_table(blocks: int, scale: int) -> None:
    levels = scale.bit_length()
    state = published_state(config(blocks, (0, 1, 2, 3), scale=scale, levels=levels, steps=1))
    expected = (1, 8, 15, 22) if scale == 4 else (1, 3, 5, 7)
    assert detect_published_srflow(state).encoder.stacked_blocks == expected


# -- strict loading -----------------------------------------------------------------------------------


def test_missing_unexpected_and_misshapen_tensors_are_named() -> None:
    state = published_state(config())
    for key in ("RRDB.trunk_conv.bias", "flowUpsamplerNet.layers.1.actnorm.logs"):
        with pytest.raises(CheckpointError, match=re.escape(f"missing {key}")):
            load_published_srflow({k: v for k, v in state.items() if k != key})
    with pytest.raises(CheckpointError, match=re.escape("unexpected RRDB.extra.weight")):
        load_published_srflow(state | {"RRDB.extra.weight": torch.zeros(1)})
    for key in ("RRDB.HRconv.weight", "flowUpsamplerNet.layers.2.invconv.weight"):
        with pytest.raises(CheckpointError, match=re.escape(f"{key} is (2, 3), expected")):
            load_published_srflow(state | {key: torch.zeros(2, 3)})


def test_unused_tensors_may_lack_and_the_projection_has_any_width() -> None:
    state = published_state(config())
    unused = unused_beside(SRFlow(config()).encoder, 3)
    bare = {key: value for key, value in state.items() if key not in unused}
    assert load_published_srflow(bare).unused == []
    assert load_published_srflow(bare).model.config == config()
    wide = load_published_srflow(state | {F_WEIGHT: torch.zeros(384, 24, 3, 3)})
    assert F_WEIGHT in wide.unused


@pytest.mark.parametrize("key", TELLING)
@pytest.mark.parametrize("value", [None, torch.zeros(()), torch.zeros(7), torch.zeros(0, 0, 3, 3)], ids=str)
def test_broken_telling_tensors(key: str, value: Tensor | None) -> None:
    state = published_state(config())
    broken = {k: v for k, v in state.items() if k != key} if value is None else state | {key: value}
    with pytest.raises(CheckpointError):
        load_published_srflow(broken)


# -- the published models' sizes ----------------------------------------------------------------------


@needs_golden
@pytest.mark.parametrize("name", FULL_SIZES)
def test_every_published_key_finds_its_tensor(name: str) -> None:
    content = json.loads((Path(FOLDER) / f"keys_srflow_{name}.json").read_text())
    shapes = {key: tuple(shape) for key, shape in content["keys"].items()}
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    assert PublishedSRFlow().detects(state)
    found = detect_published_srflow(state)
    assert found.scale == content["scale"]
    assert (found.srflow.levels, found.srflow.steps) == (content["levels"], content["steps"])
    assert found.srflow.hidden_channels == content["hidden_channels"]
    assert found.srflow.affine_eps == content["scale_eps"]
    assert found.encoder.blocks == content["rrdb_blocks"]
    assert found.encoder.stacked_blocks == tuple(content["stacked_blocks"]) == STACKS[name]
    model = SRFlow(found)
    layout = published_srflow_layout(model)
    assert list(layout.items()) == list(shapes.items())  # in their order
    unused = unused_beside(model.encoder, 3)
    assert len(unused) == 8
    assert sum(torch.Size(shape).numel() for shape in unused.values()) == 352_163
    used = sum(p.numel() for p in model.parameters())
    assert used + 352_163 == content["parameters_total"] == FULL_SIZES[name]


# -- encoders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("doublings", [2, 3])
def test_encoders_start_from_restorers(doublings: int) -> None:
    """The authors' RRDB files and ESRGAN's own have the middle dialect; the last doubling is not needed."""
    scale = 2**doublings
    random = torch.Generator().manual_seed(5)
    restorer = RRDBNet(RestorerConfig(scale=scale, channels=8, blocks=2, growth_channels=4), random)
    names = tensor_names(MID, 2, doublings)
    state = {names[key]: value for key, value in restorer.state_dict().items()}
    model = SRFlow(config(scale=scale, levels=doublings + 1))
    unused = load_encoder(model, state)
    last = f"upconv{doublings}"
    ends = ("HRconv", "conv_last", last)
    assert unused == sorted(f"{end}.{kind}" for end in ends for kind in ("weight", "bias"))
    for key, value in model.encoder.state_dict().items():
        assert torch.equal(value, restorer.state_dict()[key]), key
