"""Add an architecture: a class in one module, and one line of the list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from deflow_cli.checkpoints import architectures
from deflow_cli.checkpoints.architectures import DegraderArchitecture, Loaded, RestorerArchitecture, misfits
from deflow_cli.checkpoints.format import load_model
from deflow_cli.checkpoints.restorer import load_restorer
from deflow_cli.config.model import FlowConfig, ModelConfig
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.export.run import ExportRequest, export
from deflow_cli.workflows.import_weights import import_weights
from deflow_cli.workflows.restore import RestoreRequest, restore

PREFIX = "toy/"


class ToyRestorer(RestorerArchitecture):
    """A generator x2 of one block, its tensors named with slashes."""

    name = "toy"
    formats = ("toy",)

    def detects(self, state: Mapping[str, Tensor]) -> bool:
        return any(key.startswith(PREFIX) for key in state)

    def load(self, state: Mapping[str, Tensor]) -> Loaded[RRDBNet]:
        channels = state[f"{PREFIX}conv_first/weight"].shape[0]
        model = RRDBNet(RestorerConfig(scale=2, channels=channels, blocks=1))
        names = {PREFIX + key.replace(".", "/"): key for key in model.state_dict()}
        shapes = {theirs: tuple(model.state_dict()[ours].shape) for theirs, ours in names.items()}
        if problems := misfits(state, shapes):
            raise CheckpointError(f"no toy: {problems}")
        model.load_state_dict({names[key]: value for key, value in state.items()})
        return Loaded(model.eval(), "slashes")

    def export(self, model: RRDBNet, path: Path, file_format: str) -> list[str]:
        torch.save({PREFIX + key.replace(".", "/"): v for key, v in model.state_dict().items()}, path)
        return ["toys alone read it"]


class ToyDegrader(DegraderArchitecture):
    """A flow without encoder of one size."""

    name = "toy-flow"

    def detects(self, state: Mapping[str, Tensor]) -> bool:
        return all(key.startswith(PREFIX) for key in state)

    def load(self, state: Mapping[str, Tensor]) -> Loaded[DeFlow]:
        model = toy_flow(0)
        model.load_state_dict({key.removeprefix(PREFIX): value for key, value in state.items()})
        return Loaded(model.eval(), "prefixed", ["toy/spare"])


def toy_flow(seed: int) -> DeFlow:
    flow = FlowConfig(levels=1, steps=1, hidden_channels=4, conditioning="none")
    return DeFlow(ModelConfig(flow), seed=seed)


def register(monkeypatch: pytest.MonkeyPatch, line: tuple[str, str]) -> None:
    monkeypatch.setattr(architectures, "ARCHITECTURES", [*architectures.ARCHITECTURES, line])


@pytest.fixture
def network() -> RRDBNet:
    generator = torch.Generator().manual_seed(1)
    return RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1), generator).eval()


def test_one_line_registers_a_restorer(
    tmp_path: Path, network: RRDBNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "toy.pth"
    ToyRestorer().export(network, path, "toy")
    with pytest.raises(CheckpointError, match=r"toy\.pth: not ESRGAN weights"):
        load_restorer(path)
    register(monkeypatch, (__name__, "ToyRestorer"))
    loaded, facts = load_restorer(path)
    assert facts["dialect"] == "slashes"
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)

    Image.fromarray(np.full((12, 16, 3), 90, np.uint8)).save(tmp_path / "in.png")
    report = restore(RestoreRequest(tmp_path / "in.png", tmp_path / "out.png", path, device="cpu"), Silent())
    assert (report.scale, report.records[0].width, report.records[0].height) == (2, 32, 24)

    for target, file_format in (("basic.pth", "basicsr"), ("again.pth", "toy")):
        done = export(ExportRequest(path, tmp_path / target, file_format), Silent())
        assert ("toys alone read it" in done.caveats) == (file_format == "toy")
        assert torch.equal(load_restorer(done.path)[0].conv_last.weight, network.conv_last.weight)
    with pytest.raises(ConfigError, match="onnx") as caught:
        export(ExportRequest(path, tmp_path / "a.pth", "onnx"), Silent())
    assert caught.value.next_step == "use one of basicsr, realsr, esrgan, toy, srflow, safetensors"


def test_a_misfit_is_named(tmp_path: Path, network: RRDBNet, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "toy.pth"
    register(monkeypatch, (__name__, "ToyRestorer"))
    ToyRestorer().export(network, path, "toy")
    state = torch.load(path)
    torch.save(state | {"toy/spare": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"toy\.pth: no toy: unexpected toy/spare"):
        load_restorer(path)


def test_one_line_registers_a_degradation_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, source, target = toy_flow(7), tmp_path / "toy.pth", tmp_path / "model.safetensors"
    torch.save({PREFIX + key: value for key, value in model.state_dict().items()}, source)
    with pytest.raises(CheckpointError, match=r"toy\.pth: not a DeFlow state dict"):
        import_weights(source, target)
    register(monkeypatch, (__name__, "ToyDegrader"))
    assert import_weights(source, target).unused == ["toy/spare"]
    loaded, _ = load_model(target)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_names_and_formats_are_unique() -> None:
    known = architectures.architectures()
    for values in ([each.name for each in known], [name for each in known for name in each.formats]):
        assert len(values) == len(set(values))
