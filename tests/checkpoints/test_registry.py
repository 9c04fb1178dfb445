"""Registry: which kind of model a file or a folder holds."""

from __future__ import annotations

import pytest
import torch

from deflow_cli.checkpoints.format import save_model
from deflow_cli.checkpoints.registry import embedded_model, embedded_restorer, model_of_any_kind
from deflow_cli.checkpoints.restorer import load_restorer, save_restorer
from deflow_cli.checkpoints.translation.files import save_translator
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.config.translation import CycleGeneratorConfig
from deflow_cli.errors import CheckpointError
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.models.translation.generators import CycleGenerator
from deflow_cli.paths import weights_folder
from tests.inference.small import small_model


def test_a_model_is_recognised_by_its_content(tmp_path):
    save_model(tmp_path / "fit/model.safetensors", small_model(), {})
    network = RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1))
    save_restorer(tmp_path / "sr/restorer.safetensors", network, {})
    save_translator(
        tmp_path / "gan/model.safetensors", CycleGenerator(CycleGeneratorConfig(4, 1)), "cyclegan", {}
    )
    torch.save(network.state_dict(), tmp_path / "other.pth")
    for given, kind, file in (
        ("fit", "degradation", "fit/model.safetensors"),
        ("fit/model.safetensors", "degradation", "fit/model.safetensors"),
        ("sr", "restorer", "sr/restorer.safetensors"),
        ("gan", "translator", "gan/model.safetensors"),
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


def test_the_package_has_a_model_and_restorers_of_both_sizes():
    folder = weights_folder()
    assert embedded_model(folder).name == "camera-noise.safetensors"
    found = [embedded_restorer(folder, enlarges=enlarges) for enlarges in (False, True)]
    assert [path.name for path in found if path] == ["denoiser.safetensors", "enlarger.safetensors"]
    assert [load_restorer(path)[0].config.scale for path in found if path] == [1, 2]
    assert sum(path.stat().st_size for path in found if path) <= 8 * 2**20
