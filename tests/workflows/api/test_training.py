"""Restorers trained from Python: as the command trains them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from deflow_cli import (
    EncoderConfig,
    FlowStage,
    PretrainStage,
    PsnrStage,
    RestorerConfig,
    SrConfig,
    SrFitConfig,
    SRFlowConfig,
    SRFlowFitConfig,
    SRFlowRunConfig,
    load_restorer,
    make_pairs,
    sr_train,
)
from deflow_cli.errors import ConfigError
from tests.example_folder import lay_out_examples
from tests.listening import Listener

ESRGAN = SrConfig(
    RestorerConfig(channels=8, blocks=1),
    psnr=PsnrStage(iterations=2),
    sr=SrFitConfig(stage="psnr", select="psnr", batch_size=2, gt_size=16),
)
SRFLOW = SRFlowRunConfig(
    SRFlowConfig(levels=1, steps=1, hidden_channels=8, scale=2),
    EncoderConfig(channels=8, growth_channels=4, blocks=1, stacked_blocks=(0,)),
    PretrainStage(iterations=1),
    FlowStage(iterations=1),
    SRFlowFitConfig(select="bits", batch_size=2, gt_size=16),
)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    lay_out_examples(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_esrgan_of_pairs_restores(photos):
    make_pairs("clean", "pairs", degrader="none", scale=2)
    result = sr_train("pairs", out="runs/sr", preset=ESRGAN, arch="rrdb-tiny", device="cpu")
    assert result.step == 2
    restored = load_restorer(result.model_path)(torch.rand(1, 3, 8, 9))
    assert restored.shape == (1, 3, 16, 18)
    recorded = (photos / "runs/sr/config.toml").read_text(encoding="utf-8")
    assert "channels = 32" in recorded  # of rrdb-tiny


def test_an_srflow_is_trained_by_its_configuration(photos):
    result = sr_train(hr="clean", out="runs/space", degrader="none", scale=2, preset=SRFLOW, device="cpu")
    samples = load_restorer(result.model_path).sample(torch.rand(1, 3, 8, 8), 0.8, 2, seed=1)
    assert samples.shape == (1, 2, 3, 16, 16)
    assert not samples[:, 0].equal(samples[:, 1])


def test_a_run_goes_on_by_its_own_configuration(photos):
    first = dataclasses.replace(ESRGAN, psnr=PsnrStage(iterations=3))
    common = {"hr": "clean", "out": "runs/sr", "degrader": "none", "scale": 2, "device": "cpu"}
    sr_train(**common, preset=first)
    with pytest.raises(ConfigError, match="runs/sr holds a run already") as caught:
        sr_train(**common, preset=ESRGAN)
    assert "resume=True" in caught.value.next_step
    heard = Listener()
    again = sr_train(**common, preset=ESRGAN, settings=["sr.seed=5"], resume=True, reporter=heard)
    assert again.step == 3
    assert any(text.endswith("not applied: sr.seed") for text in heard.warnings)


def test_settings_override_a_named_preset(photos):
    settings = ["psnr.iterations=1", "sr.time_budget=0", "restorer.channels=8", "sr.batch_size=1"]
    settings += ["sr.gt_size=16", "sr.select=psnr"]
    result = sr_train(
        hr="clean", out="runs/sr", degrader="none", scale=2, preset="tiny", settings=settings, device="cpu"
    )
    assert result.step == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": "clean", "degrader": "none"}, "degraded already"),
        ({"pairs": "clean", "temperature": 0.5}, "degraded already"),
        ({"pairs": "clean", "hr": "clean"}, "both PAIRS and --hr"),
        ({}, "neither PAIRS nor --hr"),
        ({"hr": "clean", "arch": "srflow", "preset": ESRGAN}, "the preset an ESRGAN's"),
        ({"hr": "clean", "arch": "resnet"}, "--arch is 'resnet'"),
    ],
)
def test_what_contradicts_itself_is_refused(photos, arguments, message):
    with pytest.raises(ConfigError, match=message):
        sr_train(**arguments, out="runs/sr", device="cpu")
    assert not (photos / "runs/sr").exists()
