"""SRFlow files: what is saved is loaded again, and broken files are refused by name."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from deflow_cli.checkpoints.format import load_model
from deflow_cli.checkpoints.restorer import load_esrgan, load_restorer
from deflow_cli.checkpoints.srflow import files
from deflow_cli.checkpoints.srflow.files import save_srflow
from deflow_cli.config.model import EncoderConfig
from deflow_cli.config.srflow import SRFlowConfig, SRFlowModelConfig
from deflow_cli.errors import CheckpointError
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.paths import RESTORER_FILE

ENCODER = EncoderConfig(channels=8, growth_channels=4, blocks=2, stacked_blocks=(0, 1))


def srflow(seed: int = 3) -> SRFlow:
    config = SRFlowConfig(steps=2, hidden_channels=8, splits="all", affine_eps=1e-3, residual="bicubic")
    return SRFlow(SRFlowModelConfig(config, ENCODER), seed).eval()


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def test_a_saved_model_is_loaded_again_with_its_facts(tmp_path: Path) -> None:
    model, path = srflow(), tmp_path / "run" / RESTORER_FILE
    facts = {"title": "Snow", "license": "CC-BY-4.0", "step": 7, "data": {"sha256": "ab"}}
    save_srflow(path, model, facts)
    metadata = metadata_of(path)
    assert metadata["modelspec.architecture"] == "srflow"
    assert metadata["deflow.kind"] == "restorer"
    assert json.loads(metadata["deflow.config"])["srflow"]["affine_eps"] == 1e-3
    loaded, found = load_restorer(path.parent)  # its folder will do
    assert isinstance(loaded, SRFlow)
    assert loaded.config == model.config
    assert not loaded.training
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert facts.items() <= found.items()
    assert found["dialect"] == "deflow"
    assert found["version"]


def test_what_needs_another_network_refuses_it(tmp_path: Path) -> None:
    path = tmp_path / RESTORER_FILE
    save_srflow(path, srflow(), {})
    with pytest.raises(CheckpointError, match=r"restorer\.safetensors: an SRFlow model, not an ESRGAN"):
        load_esrgan(path)
    with pytest.raises(CheckpointError, match=r"restorer\.safetensors: a restorer, not a degradation model"):
        load_model(path)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / RESTORER_FILE
    save_srflow(path, srflow(), {})
    tensors, metadata = load_file(path), metadata_of(path)
    save_file(
        {key: value for key, value in tensors.items() if key != "encoder.conv_first.bias"}, path, metadata
    )
    with pytest.raises(
        CheckpointError,
        match=r"restorer\.safetensors: tensors do not fit .*missing encoder\.conv_first\.bias",
    ):
        load_restorer(path)
    config = json.loads(metadata["deflow.config"])
    config["srflow"]["scale"] = 3
    for broken in ("{", json.dumps(config), json.dumps({"srflow": {}})):
        save_file(tensors, path, metadata | {"deflow.config": broken})
        with pytest.raises(CheckpointError, match=r"restorer\.safetensors: the stored configuration cannot"):
            load_restorer(path)
    save_file(tensors, path, metadata | {"deflow.format": "2"})
    with pytest.raises(CheckpointError, match="format 2"):
        load_restorer(path)


def test_examples() -> None:
    failed, attempted = doctest.testmod(files)
    assert (failed, attempted > 0) == (0, True)
