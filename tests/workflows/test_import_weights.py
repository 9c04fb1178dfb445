"""Import: a published file becomes a model of ours that computes the same."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from deflow_cli.checkpoints.foreign import published_key_map, published_layout
from deflow_cli.checkpoints.format import load_model
from deflow_cli.checkpoints.restorer import load_restorer, save_restorer
from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.export.run import ExportRequest, export
from deflow_cli.workflows.import_weights import import_weights
from tests.checkpoints.srflow.published_files import config as srflow_config
from tests.checkpoints.srflow.published_files import published_state as srflow_state
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


# -- SRFlow -------------------------------------------------------------------------------------------


def test_an_srflow_is_imported_restored_from_and_exported_as_it_came(tmp_path):
    of = srflow_config(blocks=5, stacked=(0, 1, 3, 4), steps=1, levels=2, affine_eps=1e-3)
    state = srflow_state(of)
    source, ours = tmp_path / "SRFlow.pth", tmp_path / "restorer.safetensors"
    torch.save({f"module.{key}": value for key, value in state.items()}, source)
    with pytest.raises(CheckpointError, match=r"SRFlow\.pth: the file has 5 encoder blocks of which 4"):
        import_weights(source, ours)
    assert not ours.exists()
    report = import_weights(source, ours, stacked_blocks=(0, 1, 3, 4), affine_eps=1e-3)
    assert report.architecture == "srflow"
    assert report.tensors == len(state)
    assert report.assumed == ["training without noise on the images"]
    assert "flowUpsamplerNet.f.0.weight" in report.unused
    model, facts = load_restorer(ours)
    assert model.config == of
    assert facts["title"] == "SRFlow"
    assert facts["imported_from"] == source.name
    with pytest.raises(CheckpointError, match="a restorer, not a degradation model"):
        load_model(ours)

    # through another file of ours, to the authors' layout
    export(ExportRequest(ours, tmp_path / "again.safetensors", "safetensors"), Silent())
    done = export(ExportRequest(tmp_path / "again.safetensors", tmp_path / "out.pth", "srflow"), Silent())
    assert any("0, 1, 3, 4" in caveat for caveat in done.caveats)
    written = torch.load(tmp_path / "out.pth", weights_only=True)
    assert list(written) == list(state)
    for key, value in state.items():
        assert torch.equal(written[key], value), key


def test_a_published_srflow_is_exported_without_being_imported(tmp_path):
    state = srflow_state(srflow_config(blocks=23, stacked=(1, 8, 15, 22), steps=1, levels=2))
    torch.save(state, tmp_path / "SRFlow.pth")
    export(ExportRequest(tmp_path / "SRFlow.pth", tmp_path / "out.pth", "srflow"), Silent())
    written = torch.load(tmp_path / "out.pth", weights_only=True)
    assert all(torch.equal(written[key], value) for key, value in state.items())
    with pytest.raises(ConfigError, match="an SRFlow model cannot be written as basicsr") as caught:
        export(ExportRequest(tmp_path / "SRFlow.pth", tmp_path / "basic.pth"), Silent())
    assert caught.value.next_step == "use --format srflow or safetensors"
    entry = ExportRequest(tmp_path / "SRFlow.pth", tmp_path / "o.pth", "srflow", tmp_path, author="a")
    with pytest.raises(ConfigError, match="ESRGAN generators alone"):
        export(entry, Silent())
    assert not (tmp_path / "o.pth").exists()


def test_other_networks_are_not_written_as_an_srflow(tmp_path):
    save_restorer(tmp_path / "r.safetensors", RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1)), {})
    with pytest.raises(ConfigError, match="an ESRGAN generator cannot be written as srflow"):
        export(ExportRequest(tmp_path / "r.safetensors", tmp_path / "o.pth", "srflow"), Silent())


def test_options_of_srflow_are_refused_for_other_files(published, tmp_path):
    torch.save(published[1], tmp_path / "old.pth")
    for options in ({"stacked_blocks": (0, 1)}, {"affine_eps": 1e-3}):
        with pytest.raises(ConfigError, match="--blocks and --eps are for files of SRFlow"):
            import_weights(tmp_path / "old.pth", tmp_path / "new.safetensors", **options)
    assert not (tmp_path / "new.safetensors").exists()
