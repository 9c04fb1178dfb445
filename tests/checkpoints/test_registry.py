"""Registry: which kind of model a file or a folder holds."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from deflow_cli.checkpoints.format import TRANSLATOR_KIND, save_model
from deflow_cli.checkpoints.registry import model_of_any_kind
from deflow_cli.checkpoints.restorer import save_restorer
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import CheckpointError
from deflow_cli.models.esrgan.generator import RRDBNet
from tests.inference.small import small_model


def test_a_model_is_recognised_by_its_content(tmp_path):
    save_model(tmp_path / "fit/model.safetensors", small_model(), {})
    network = RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1))
    save_restorer(tmp_path / "sr/restorer.safetensors", network, {})
    torch.save(network.state_dict(), tmp_path / "other.pth")
    for given, kind, file in (
        ("fit", "degradation", "fit/model.safetensors"),
        ("fit/model.safetensors", "degradation", "fit/model.safetensors"),
        ("sr", "restorer", "sr/restorer.safetensors"),
        ("other.pth", "restorer", "other.pth"),
    ):
        found, is_a = model_of_any_kind(tmp_path / given)
        assert (found.path, is_a) == (tmp_path / file, kind)


def test_what_is_no_one_model(tmp_path):
    with pytest.raises(CheckpointError, match="no such model"):
        model_of_any_kind(tmp_path / "none")
    with pytest.raises(CheckpointError, match="holds no"):
        model_of_any_kind(tmp_path)
    for name in ("model", "restorer"):
        (tmp_path / f"{name}.safetensors").touch()
    with pytest.raises(CheckpointError, match="holds both"):
        model_of_any_kind(tmp_path)
    facts = {
        "deflow.kind": TRANSLATOR_KIND,
        "modelspec.architecture": "dsgan",
        "deflow.config": json.dumps({}),
    }
    save_file({"a": torch.zeros(1)}, tmp_path / "t.safetensors", facts)
    with pytest.raises(CheckpointError, match="a model of dsgan"):
        model_of_any_kind(tmp_path / "t.safetensors")
