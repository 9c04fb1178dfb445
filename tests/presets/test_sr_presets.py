"""Configuration of a restorer's training: the paper's values, every key explained, what is refused."""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from importlib import resources

import pytest

from deflow_cli.config.restorer import RESTORER_SIZES, SrConfig
from deflow_cli.errors import ConfigError
from deflow_cli.presets.reader import FIT, SR

NAMES = ["fast", "paper", "tiny"]


def _text(name: str) -> str:
    return resources.files("deflow_cli.presets").joinpath(f"sr-{name}.toml").read_text(encoding="utf-8")


def test_each_command_has_its_own_presets():
    assert SR.names() == NAMES
    assert not any(name.startswith("sr-") for name in FIT.names())
    with pytest.raises(ConfigError, match="'base' is no preset"):
        SR.load("base")


@pytest.mark.parametrize("name", NAMES)
def test_preset_names_every_key_and_comments_it(name):
    tables = tomllib.loads(_text(name))
    assert {s: set(table) for s, table in tables.items()} == {
        s: {field.name for field in fields(kind)} for s, kind in SR.sections.items()
    }
    for line in _text(name).splitlines():
        if line.partition("#")[0].strip() and not line.startswith("["):
            value, _, comment = line.partition("  # ")
            assert comment.strip(), f"sr-{name}.toml: {value!r} has no comment"


@pytest.mark.parametrize("name", NAMES)
def test_written_and_read_again_a_run_is_the_same(name):
    config = SR.load(name)
    assert SR.parse_toml(SR.to_toml(config), name) == config


def test_paper_is_the_papers_restorer():
    config = SR.load("paper")
    assert config == SrConfig()
    restorer, loss, gan, sr = config.restorer, config.loss, config.gan, config.sr
    assert (restorer.channels, restorer.blocks, restorer.growth_channels) == RESTORER_SIZES["rrdb"]
    assert (loss.pixel, loss.perceptual, loss.adversarial) == (1e-2, 1.0, 5e-3)
    assert (loss.features, loss.discriminator, loss.discriminator_channels) == ("vgg19", "vgg", 64)
    assert (gan.iterations, gan.learning_rate, gan.betas) == (60_000, 1e-4, (0.9, 0.999))
    assert (gan.schedule, gan.halve_at) == ("steps", (5_000, 10_000, 20_000, 30_000))
    assert (sr.batch_size, sr.gt_size, sr.flips, sr.ema, sr.clip_gradients) == (16, 128, True, 0.0, 0.0)
    assert sr.start == "published"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sr.stage=gan", "gan.iterations=0"], r"neither gan\.iterations nor sr\.time_budget"),
        (["sr.stage=both", "psnr.iterations=0"], r"neither psnr\.iterations"),
        (["sr.time_budget=60"], r"both psnr\.iterations .* and sr\.time_budget"),
        (["sr.stage=gan", "sr.batch_size=1"], "compares the images of a batch"),
        (["loss.discriminator=resnet"], r"loss\.discriminator is 'resnet'"),
        (["loss.pixel=0", "loss.adversarial=0", "loss.features=none"], "all weights of the loss are zero"),
        (["psnr.schedule=linear"], r"psnr\.schedule is 'linear'"),
        (["sr.select=fid"], r"sr\.select is 'fid'"),
    ],
)
def test_what_cannot_be_trained_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        SR.apply_overrides(SrConfig(), overrides)


def test_stages_of_a_run():
    sr = SrConfig().sr
    assert SrConfig(sr=replace(sr, stage="both")).stages == ("psnr", "gan")
    assert SrConfig(sr=replace(sr, stage="gan")).stages == ("gan",)
