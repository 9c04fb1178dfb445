"""Publishing: the same tensors, and no name of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deflow_cli.checkpoints.format import load_model, save_model
from deflow_cli.checkpoints.publishing import without_places, write_publishable
from deflow_cli.checkpoints.restorer import load_restorer, save_restorer
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import CheckpointError
from deflow_cli.models.esrgan.generator import RRDBNet
from tests.inference.small import small_model

TOML = '[fit]\nencoder_weights = "/home/ann/esrgan.pth"\nlpips_file = "weights/alex.pth"\npreset = "tiny"\n'
FACTS = {
    "steps": 7,
    "components": [["holiday/beach.png"], ["IMG_1.png"]],
    "config": TOML,
    "notes": ["read from C:\\Users\\ann\\photos", {"~/x/y": 5.1}],
    "channel_statistics": "differs by +5.1/255 (z = +0.7)",
}


def test_a_model_keeps_its_tensors_and_loses_its_places(tmp_path):
    save_model(tmp_path / "m.safetensors", small_model(), FACTS, title="run")
    card = {"title": "Film", "author": "ann", "license": "CC0-1.0", "description": ""}
    write_publishable(tmp_path / "m.safetensors", tmp_path / "p.safetensors", card)
    content = (tmp_path / "p.safetensors").read_bytes()
    for word in (b"/home/ann", b"beach", b"IMG_1", b"Users", b"weights/alex", str(tmp_path).encode()):
        assert word not in content
    model, facts = load_model(tmp_path / "p.safetensors")
    for key, value in small_model().state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    assert facts["config"] == TOML.replace("/home/ann/", "").replace("weights/", "")
    assert (facts["title"], facts["steps"]) == ("Film", 7)
    assert facts["channel_statistics"] == FACTS["channel_statistics"]
    write_publishable(tmp_path / "p.safetensors", tmp_path / "q.safetensors", {})
    again = load_model(tmp_path / "q.safetensors")[1]
    assert {**again, "date": ""} == {**facts, "date": ""}


def test_a_restorer(tmp_path):
    network = RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1))
    save_restorer(tmp_path / "r.safetensors", network, {"source": str(tmp_path / "pairs"), "steps": 3})
    write_publishable(tmp_path / "r.safetensors", tmp_path / "p.safetensors", {"license": "MIT"})
    assert str(tmp_path).encode() not in (tmp_path / "p.safetensors").read_bytes()
    model, facts = load_restorer(tmp_path / "p.safetensors")
    assert (facts["license"], facts["steps"], facts["source"]) == ("MIT", 3, "...")
    for key, value in network.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def test_files_of_others_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match="no model file of ours"):
        write_publishable(tmp_path / "m.pth", tmp_path / "p.safetensors", {})


@pytest.mark.parametrize(
    ("text", "cleared"),
    [
        (f"fitted in {Path.home()}/runs on cpu", "fitted in ... on cpu"),
        ('"D:/data/a.png"', '"..."'),
        ("\\\\server\\share\\a", "..."),
        ("and/or, 3/4, https://huggingface.co/ann/film, hf://ann/film", None),
        ("deflow degrade photos/ degraded/ --model hf://ann/film", None),
    ],
)
def test_places_in_texts(text, cleared):
    assert without_places(text) == (text if cleared is None else cleared)
