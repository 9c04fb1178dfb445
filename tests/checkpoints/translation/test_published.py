"""Generators of others: every tensor finds its place by order and shape, and other networks are not taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deflow_cli.checkpoints.architectures import importable
from deflow_cli.checkpoints.registry import method_of_model
from deflow_cli.checkpoints.translation.files import load_translator
from deflow_cli.checkpoints.translation.published import PublishedTranslator
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import CheckpointError
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.workflows.import_weights import import_weights


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.prelu(self.conv1(x)))


class Foreign(nn.Module):
    """The papers' network as somebody else might write it, with names of their own."""

    def __init__(self, channels: int, blocks: int, halvings: int) -> None:
        super().__init__()
        self.block_input = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.PReLU())
        self.res_blocks = nn.ModuleList([Block(channels) for _ in range(blocks)])
        self.down = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.PReLU())
                for _ in range(halvings)
            )
        )
        self.block_output = nn.Conv2d(channels, 3, 3, padding=1)
        for number, parameter in enumerate(self.parameters()):
            if parameter.shape == (1,):
                parameter.data.fill_(0.1 + 0.01 * number)  # each slope its own

    def forward(self, x: Tensor) -> Tensor:
        x = self.block_input(x)
        for block in self.res_blocks:
            x = block(x)
        return torch.sigmoid(self.block_output(self.down(x)))


@pytest.mark.parametrize(
    ("blocks", "halvings", "method"), [(8, 0, "dsgan"), (8, 2, "dasr"), (1, 1, "dasr"), (3, 3, "dasr")]
)
def test_it_computes_what_the_file_did(blocks: int, halvings: int, method: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    foreign = Foreign(6, blocks, halvings).eval()
    source, target = tmp_path / "generator.pth", tmp_path / "ours.safetensors"
    torch.save({"state_dict": foreign.state_dict(), "epoch": 3}, source)
    report = import_weights(source, target)
    assert (report.architecture, report.tensors) == (method, len(foreign.state_dict()))
    assert report.config == {"channels": 6, "blocks": blocks, "scale": 2**halvings}
    assert "order" in report.assumed[0]
    assert method_of_model(target) == method
    ours = load_translator(target)
    assert ours.facts["assumed"] == report.assumed
    image = torch.rand(1, 3, 32, 40)
    assert torch.allclose(ours.generator(image), foreign(image), atol=1e-6)


def test_the_published_sizes_are_recognised() -> None:
    with torch.device("meta"):
        for halvings in (0, 2):
            state = Foreign(64, 8, halvings).state_dict()
            assert isinstance(importable(state), PublishedTranslator)


def test_other_networks_are_not_taken() -> None:
    state = Foreign(4, 2, 0).state_dict()
    another_order = dict(sorted(state.items()))
    wider = {**state, "block_output.weight": torch.zeros(12, 4, 3, 3)}
    esrgan = RRDBNet(RestorerConfig(channels=8, blocks=1)).state_dict()
    for other in (esrgan, another_order, wider, {}):
        assert not PublishedTranslator().detects(other)
    with pytest.raises(CheckpointError, match="another order"):
        PublishedTranslator().load(another_order)


def test_an_unknown_name_around_the_weights_is_told(tmp_path: Path) -> None:
    source = tmp_path / "all.pth"
    torch.save({"the_generator": Foreign(4, 1, 0).state_dict(), "epoch": 3}, source)
    with pytest.raises(CheckpointError, match="no state dict under a name that is known, only the_generator"):
        import_weights(source, tmp_path / "ours.safetensors")
