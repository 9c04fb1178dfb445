"""Adapters for wtp_dataset_destroyer: their names, and what is refused."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from deflow_cli.checkpoints.format import save_model
from deflow_cli.checkpoints.restorer import save_restorer
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.export.wtp import export_wtp
from tests.inference.small import small_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path / "model.safetensors", small_model(), {})
    return tmp_path / "model.safetensors"


def test_a_file_of_another_name_is_of_another_type(model, tmp_path):
    report = export_wtp(tmp_path / "host/old_film_degr.py", model, Silent())
    assert report.type == "old_film"
    assert report.weights.name == "old_film_degr.safetensors"
    tree = ast.parse(report.adapter.read_text())
    [made] = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert made.name == "OldFilm"
    assert len(report.adapter.read_text().splitlines()) <= 40


@pytest.mark.parametrize("name", ["film.py", "two words_degr.py", "_degr.py"])
def test_names_that_the_host_would_not_import(model, tmp_path, name):
    with pytest.raises(ConfigError, match=r"_degr\.py alone"):
        export_wtp(tmp_path / "host" / name, model, Silent())
    assert not (tmp_path / "host").exists()


def test_models_that_will_not_do(model, tmp_path):
    restorer = tmp_path / "restorer.safetensors"
    save_restorer(restorer, RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1)), {})
    with pytest.raises(CheckpointError, match="a restorer"):
        export_wtp(tmp_path / "host", restorer, Silent())
    written = export_wtp(tmp_path / "host", model, Silent())
    with pytest.raises(CheckpointError, match="is the model itself"):
        export_wtp(tmp_path / "host", written.weights, Silent())
