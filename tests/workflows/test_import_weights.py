"""Import: a published file becomes a model of ours that computes the same."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from deflow_cli.checkpoints.foreign import published_key_map, published_layout
from deflow_cli.checkpoints.format import load_model
from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.errors import CheckpointError
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.workflows.import_weights import import_weights
from tests.inference.small import smooth_images


@pytest.fixture(scope="module")
def published():
    """A model and its state dict in the published layout, the unused tensors too."""
    config = ModelConfig(
        FlowConfig(levels=3, steps=2, hidden_channels=8),
        EncoderConfig(channels=8, growth_channels=4, blocks=2, stacked_blocks=(0, 1)),
    )
    model = DeFlow(config, seed=5).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    layout, names = published_layout(model), published_key_map(model)
    state = {name: torch.zeros(shape) for name, shape in layout.items()}
    for ours, theirs in names.items():
        state[theirs] = model.state_dict()[ours].detach().clone().reshape(layout[theirs])
    return model, state


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_imported_model_computes_the_same(published, tmp_path, suffix):
    model, state = published
    source, target = tmp_path / f"old{suffix}", tmp_path / "new.safetensors"
    torch.save(state, source) if suffix == ".pth" else save_file(state, source)
    report = import_weights(source, target)
    assert report.tensors == len(state)
    assert "flowUpsamplerNet.f.0.weight" in report.unused
    assert report.config["flow"]["steps"] == 2
    loaded, facts = load_model(target)
    assert facts["imported_from"] == source.name
    image = smooth_images(1, 16, 24)
    with torch.no_grad():
        results = [m.encode_conditioned(image, m.prepare(m.condition_image(image))) for m in (model, loaded)]
    assert all(torch.equal(a, b) for a, b in zip(results[0][0], results[1][0], strict=True))
    assert torch.equal(results[0][1], results[1][1])


def test_lost_or_unknown_tensors_are_errors(published, tmp_path):
    _, state = published
    for broken in (
        {k: v for k, v in state.items() if k != "RRDB.trunk_conv.bias"},
        {**state, "something.else": torch.zeros(1)},
    ):
        torch.save(broken, tmp_path / "old.pth")
        with pytest.raises(CheckpointError, match=r"old\.pth.*(trunk_conv\.bias|something\.else)"):
            import_weights(tmp_path / "old.pth", tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


def test_the_source_is_not_overwritten(published, tmp_path):
    save_file(published[1], tmp_path / "old.safetensors")
    with pytest.raises(CheckpointError, match="overwrite"):
        import_weights(tmp_path / "old.safetensors", tmp_path / "old.safetensors")
