"""Inspect: what is told of an SRFlow is what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from deflow_cli.checkpoints.srflow.files import save_srflow
from deflow_cli.cli.console import plain
from deflow_cli.errors import CheckpointError
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.workflows.inspect.run import inspect_model
from deflow_cli.workflows.inspect.srflow import srflow_multiply_adds
from tests.checkpoints.srflow.published_files import config, published_state


def test_our_file(tmp_path: Path) -> None:
    model = SRFlow(config(noise="gaussian", noise_std=3.0, splits="all"))
    facts = {"title": "Snow", "step": 12, "scores": {"lpips": 0.25}, "config": "[srflow]\n"}
    save_srflow(tmp_path / "restorer.safetensors", model, facts)
    report = inspect_model(tmp_path / "restorer.safetensors").as_dict()
    assert report["file"]["title"] == "Snow"
    sizes = report["sizes"]
    assert (sizes["kind"], sizes["layout"], sizes["scale"]) == ("SRFlow", "deflow", 4)
    assert sizes["parameters"] == sum(p.numel() for p in model.parameters())
    assert sizes["parameters"] == sizes["parameters_flow"] + sizes["parameters_encoder"]
    assert sizes["latents"] == ["6 at 1/2", "12 at 1/4", "48 at 1/8"]
    assert sizes["affine"] == "published, 0.0001"
    assert report["conditioning"]["stacked_blocks"] == [0, 1]
    assert report["noise"] == {"kind": "gaussian", "std_grey_levels": 3.0}
    assert report["training"]["step"] == 12
    assert report["training"]["scores"] == {"lpips": 0.25}
    assert "config" not in report["training"]
    json.dumps(plain(report))


def test_a_published_file(tmp_path: Path) -> None:
    path = tmp_path / "SRFlow.pth"
    torch.save(published_state(config()), path)
    report = inspect_model(path).as_dict()
    assert report["file"]["title"] == "SRFlow"
    assert report["sizes"]["layout"] == "published"
    assert report["training"]["assumed"][0] == "stacked blocks 0, 1"


def test_neither(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"other\.pth"):
        inspect_model(path)


def test_multiply_adds_are_of_the_larger_image() -> None:
    model = SRFlow(config())
    few, many = srflow_multiply_adds(model, 8), srflow_multiply_adds(model, 16)
    assert (few.encode, few.decode) == (many.encode, many.decode)
    assert few.features == pytest.approx(many.features, rel=0.05)  # what is done once per image counts less
    assert min(few.features, few.encode, few.decode) > 0
