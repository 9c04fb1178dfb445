"""Inspect: what is told of a model is what it is."""

from __future__ import annotations

import json
import math

import pytest
import torch

from deflow_cli.checkpoints.format import save_model
from deflow_cli.cli.console import plain
from deflow_cli.data.jpeg_history import FolderCompression, JpegSetting
from deflow_cli.workflows.inspect.deflow import multiply_adds
from deflow_cli.workflows.inspect.run import inspect_model
from tests.inference.small import SHIFT_MEAN, SHIFT_STD, build, small_model


@pytest.fixture
def path(tmp_path):
    facts = {"step": 12, "bits_per_dim_clean": 3.25, "images_noisy": 7, "config": "[flow]\n"}
    save_model(tmp_path / "m.safetensors", small_model(), facts, title="camera")
    return tmp_path / "m.safetensors"


def test_sections(path):
    report = inspect_model(path).as_dict()
    assert report["file"]["title"] == "camera"
    assert report["sizes"]["parameters"] == sum(p.numel() for p in small_model().parameters())
    assert report["sizes"]["latents"] == ["48 at 1/4"]
    assert report["conditioning"]["downsample"] == 4
    assert report["training"] == {"step": 12}
    assert report["likelihood"] == {"bits_per_dim_clean": 3.25}
    assert report["data"] == {"images_noisy": 7}
    assert report["statistics"] == {"in_use": False}
    json.dumps(plain(report))


def test_spectrum_of_the_shift(path):
    shift = inspect_model(path).as_dict()["shift"]
    assert [c["weight"] for c in shift["components"]] == pytest.approx([0.7, 0.3])
    for k, component in enumerate(shift["components"]):
        latent = component["latent_0"]
        for name in ("largest", "median", "smallest"):
            assert latent[f"eigenvalue_{name}"] == pytest.approx(SHIFT_STD[k] ** 2, rel=1e-4)
        assert latent["effective_rank"] == pytest.approx(48, rel=1e-4)
        assert latent["trace"] == pytest.approx(48 * SHIFT_STD[k] ** 2, rel=1e-4)
        assert latent["mean_rms"] == pytest.approx(abs(SHIFT_MEAN[k]), rel=1e-5)


def test_effective_rank_counts_directions(tmp_path):
    model = build("correlated")
    latent = model.prior.shared()[0]
    spectrum = torch.zeros(48)
    spectrum[:3] = 0.5
    latent.set_moments(0, torch.zeros(48), torch.diag(spectrum))
    save_model(tmp_path / "m.safetensors", model, {})
    told = inspect_model(tmp_path / "m.safetensors").as_dict()["shift"]["components"][0]["latent_0"]
    assert told["effective_rank"] == pytest.approx(3, rel=1e-4)
    assert told["eigenvalue_median"] == pytest.approx(0, abs=1e-9)


def test_zero_shift_is_told_as_such(tmp_path):
    model = build("correlated")
    with torch.no_grad():
        model.prior.shared()[0].root.zero_()
    save_model(tmp_path / "m.safetensors", model, {})
    told = inspect_model(tmp_path / "m.safetensors").as_dict()["shift"]["components"][0]["latent_0"]
    assert (told["effective_rank"], told["trace"]) == (0.0, 0.0)


def test_statistics_are_told(tmp_path):
    model = build()
    model.statistics.set(torch.arange(12.0).reshape(4, 3), torch.ones(4, 3))
    save_model(tmp_path / "m.safetensors", model, {})
    told = inspect_model(tmp_path / "m.safetensors").as_dict()["statistics"]
    assert told["in_use"] is True
    assert told["degraded_mean"] == [3.0, 4.0, 5.0]


def test_multiply_adds_by_hand():
    """A model without features: per step the 1x1 and the three convolutions of the coupling, per position."""
    model = build(conditioning="none", condition_channels=0, transition_steps=0)
    expected = 0.0
    for level, channels in ((1, 12), (2, 48)):
        half, hidden = channels // 2, 8
        per_step = channels**2 + 9 * half * hidden + hidden**2 + 9 * hidden * 2 * half
        expected += 2 * per_step / 4**level
    counted = multiply_adds(model)
    assert counted.features == 0
    assert counted.encode == counted.decode
    assert math.isclose(counted.encode, expected, abs_tol=1)


def test_compression_is_shown_where_it_is_recorded(tmp_path, path):
    assert "compression" not in inspect_model(path).as_dict()
    settings = ((JpegSetting.of_quality(90), 0.5), (JpegSetting.of_quality(97, "4:2:2"), 0.25))
    facts = {"compression": FolderCompression(8, settings).to_dict()}
    save_model(tmp_path / "jpeg.safetensors", small_model(), facts)
    report = inspect_model(tmp_path / "jpeg.safetensors").as_dict()
    assert report["compression"] == {
        "images_examined": 8,
        "images_compressed": 6,
        "quality": [90, 97],
        "subsampling": ["4:2:0", "4:2:2"],
    }
    assert report.get("data", {}) == {}
