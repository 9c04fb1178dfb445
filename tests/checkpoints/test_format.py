"""Model files: what one states of itself is checked before anything is built for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from deflow_cli.checkpoints.format import load_model, read_tensors, save_model
from deflow_cli.checkpoints.restorer import load_restorer
from deflow_cli.checkpoints.srflow.files import save_srflow
from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.config.srflow import SRFlowConfig, SRFlowModelConfig
from deflow_cli.errors import CheckpointError
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.srflow.model import SRFlow

ENCODER = EncoderConfig(channels=4, growth_channels=2, blocks=2, stacked_blocks=(0, 1))
FLOW = {"levels": 2, "steps": 1, "hidden_channels": 4}
Change = Callable[[dict[str, Any]], None]


def rewritten(path: Path, change: Change) -> Path:
    """The file with another stored configuration."""
    metadata = read_tensors(path)[1]
    config = json.loads(metadata["deflow.config"])
    change(config)
    save_file(load_file(path), path, metadata | {"deflow.config": json.dumps(config)})
    return path


def setting(section: str, key: str, value: Any) -> Change:
    return lambda config: config[section].__setitem__(key, value)


@pytest.mark.parametrize(
    "flow",
    [
        {},
        {"levels": 3, "steps": 2},
        {"condition_channels": 3},
        {"shift": "mixture:3"},
        {"shift": "diagonal", "splits": "all"},
        {"conditioning": "none"},
        {"transition_steps": 0, "steps": 3},
    ],
    ids=str,
)
def test_every_model_has_more_numbers_than_the_least(flow: dict[str, Any]) -> None:
    for encoder in (ENCODER, EncoderConfig(6, 5, 1, (0,))):
        config = ModelConfig(FlowConfig(**FLOW | flow), encoder)
        held = sum(value.numel() for value in DeFlow(config).state_dict().values())
        assert 0 < config.least_parameters < held


def test_every_srflow_has_more_numbers_than_the_least() -> None:
    config = SRFlowModelConfig(SRFlowConfig(levels=3, steps=1, hidden_channels=4), ENCODER)
    held = sum(value.numel() for value in SRFlow(config).state_dict().values())
    assert 0 < config.least_parameters < held


HUGE = [
    ("flow", "hidden_channels", 10**6),
    ("flow", "steps", 10**9),
    ("flow", "transition_steps", 10**9),
    ("flow", "in_channels", 10**6),
    ("flow", "condition_channels", 10**9),
    ("flow", "shift", "mixture:1000000000"),
    ("encoder", "channels", 10**6),
    ("encoder", "growth_channels", 10**6),
    ("encoder", "blocks", 10**9),
    ("encoder", "stacked_blocks", [0] * 10**5),
]


@pytest.mark.parametrize(("section", "key", "value"), HUGE, ids=[f"{s}.{k}" for s, k, _ in HUGE])
def test_sizes_that_the_file_cannot_hold_are_refused_before_a_model_is_built(
    tmp_path: Path, section: str, key: str, value: Any
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, DeFlow(ModelConfig(FlowConfig(**FLOW), ENCODER)), {})
    rewritten(path, setting(section, key, value))
    started = time.monotonic()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: its sizes are those of a model of more"):
        load_model(path)
    assert time.monotonic() - started < 5
    if key in ("shift", "transition_steps", "in_channels"):
        return  # not sizes of an SRFlow, or under another name
    srflow = tmp_path / "restorer.safetensors"
    save_srflow(srflow, SRFlow(SRFlowModelConfig(SRFlowConfig(**FLOW), ENCODER)), {})
    rewritten(srflow, setting("srflow" if section == "flow" else section, key, value))
    with pytest.raises(CheckpointError, match=r"restorer\.safetensors: .*its sizes are those of a model"):
        load_restorer(srflow)


@pytest.mark.parametrize(
    "change",
    [
        setting("flow", "hidden_channels", 4.5),
        setting("flow", "hidden_channels", "4"),
        setting("flow", "steps", True),
        setting("flow", "surprise", 1),
        setting("flow", "splits", "some"),
        setting("encoder", "stacked_blocks", 3),
        lambda config: config.pop("encoder"),
        lambda config: config.clear(),
    ],
)
def test_configurations_that_are_none(tmp_path: Path, change: Change) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, DeFlow(ModelConfig(FlowConfig(**FLOW), ENCODER)), {})
    with pytest.raises(CheckpointError, match=r"model\.safetensors: the stored configuration cannot be read"):
        load_model(rewritten(path, change))


def test_tensors_that_do_not_fit_are_named_in_our_words(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, DeFlow(ModelConfig(FlowConfig(**FLOW), ENCODER)), {})
    tensors, metadata = read_tensors(path)
    tensors.pop("encoder.conv_first.bias")
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert "tensors do not fit the stored configuration: missing encoder.conv_first.bias" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_from_before_the_tables_of_colours_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, DeFlow(ModelConfig(FlowConfig(**FLOW | {"grain": "matched"}), ENCODER)), {})
    tensors, metadata = read_tensors(path)
    table = torch.rand(6, 8, generator=torch.Generator().manual_seed(0))
    del tensors["grain.gain_cbt"]
    save_file(tensors | {"grain.gain_bt": table}, path, metadata)
    grain = load_model(path)[0].grain
    assert grain is not None
    assert torch.equal(grain.gain_cbt, table.expand(3, 6, 8))


def test_facts_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, DeFlow(ModelConfig(FlowConfig(**FLOW), ENCODER)), {})
    tensors, metadata = read_tensors(path)
    for text in ("[", "3", "[" * 100_000):
        save_file(tensors, path, metadata | {"deflow.training": text})
        with pytest.raises(CheckpointError, match=r"model\.safetensors: the stored facts cannot be read"):
            load_model(path)
