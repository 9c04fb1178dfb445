"""Configuration and presets: every key explained, every value checked, every run written down as it was."""

from __future__ import annotations

import doctest
import tomllib
from dataclasses import fields, replace
from importlib import resources

import pytest

from deflow_cli.config.fit import FitConfig, RunConfig
from deflow_cli.config.model import FlowConfig
from deflow_cli.errors import ConfigError
from deflow_cli.presets import durations, reader, values
from deflow_cli.presets.reader import FIT
from deflow_cli.texts import encoded

NAMES = ["aim", "base", "dped", "ntire", "tiny"]


def _text(name: str) -> str:
    return resources.files("deflow_cli.presets").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def test_the_presets_are_there():
    assert FIT.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_preset_names_every_key_and_comments_it(name):
    tables = tomllib.loads(_text(name))
    assert {s: set(table) for s, table in tables.items()} == {
        s: {field.name for field in fields(kind)} for s, kind in FIT.sections.items()
    }
    for line in _text(name).splitlines():
        if line.partition("#")[0].strip() and not line.startswith("["):
            value, _, comment = line.partition("  # ")
            assert comment.strip(), f"{name}.toml: {value!r} has no comment"


@pytest.mark.parametrize("name", NAMES)
def test_written_and_read_again_a_run_is_the_same(name):
    config = FIT.load(name)
    assert FIT.parse_toml(FIT.to_toml(config), name) == config


def test_rare_values_survive_writing():
    fit = replace(FitConfig(), learning_rate=1e-5, shift_learning_rate=3e-17, betas=(0.5, 0.99), flips=False)
    config = RunConfig(flow=FlowConfig(shift="mixture:12", h_noise=0.1 + 0.2), fit=fit)
    assert FIT.parse_toml(FIT.to_toml(config), "run") == config


@pytest.mark.parametrize("path", ["caf\udce9/x.pth", "größe.pth", "\U0001f600", "a\x7f\tb\n\"'\\"])
def test_a_path_of_any_bytes_comes_back_from_a_file(tmp_path, path):
    config = FIT.apply_overrides(FIT.load("tiny"), [])
    config = replace(config, fit=replace(config.fit, encoder_weights=path))
    (tmp_path / "config.toml").write_bytes(encoded(FIT.to_toml(config)))
    assert FIT.load(tmp_path / "config.toml") == config


@pytest.mark.parametrize(
    ("name", "downsample", "hidden", "batch", "patch", "rate", "statistics"),
    [
        ("aim", 8, 128, 8, 160, 1e-4, "yes"),
        ("ntire", 4, 64, 8, 160, 5e-5, "no"),
        ("dped", 4, 64, 48, 80, 5e-6, "no"),
    ],
)
def test_the_papers_presets(name, downsample, hidden, batch, patch, rate, statistics):
    run = FIT.load(name)
    flow, encoder, fit = run.flow, run.encoder, run.fit
    assert (flow.downsample, flow.hidden_channels) == (downsample, hidden)
    assert (flow.levels, flow.steps, flow.transition_steps, flow.splits, flow.scale) == (
        3,
        16,
        2,
        "published",
        "published",
    )
    assert (flow.scale_eps, flow.h_noise, flow.quantization_levels, flow.shift) == (
        1e-3,
        0.03,
        32,
        "correlated",
    )
    assert (encoder.channels, encoder.growth_channels, encoder.blocks) == (64, 32, 23)
    assert encoder.stacked_blocks == (1, 8, 15, 22)
    assert (fit.batch_size, fit.patch_size, fit.learning_rate) == (batch, patch, rate)
    assert (fit.channel_statistics, fit.iterations, fit.schedule) == (statistics, 100_000, "published")
    assert (fit.betas, fit.clip_gradients, fit.ema, fit.leak_test) == ((0.9, 0.999), 0.0, 0.0, False)
    assert FIT.apply_overrides(run, ["fit.start=zero"]).fit.start == "zero"


def test_a_file_is_read_like_a_preset(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[flow]\nsteps = 2\n[fit]\nlearning_rate = 1\nbetas = [0.5, 0.9]\n")
    config = FIT.load(path)
    assert (config.flow.steps, config.fit.learning_rate, config.fit.betas) == (2, 1.0, (0.5, 0.9))
    assert config.encoder == RunConfig().encoder


@pytest.mark.parametrize(
    ("text", "message", "next_step"),
    [
        ("[flow]\nstep = 2", "unknown key 'flow.step'", "did you mean 'flow.steps'?"),
        ("[flwo]\n", "unknown section 'flwo'", "did you mean 'flow'?"),
        ("[flow]\nsteps = true", "flow.steps is True; expected an integer", ""),
        ("[flow]\nsteps = 2.0", "flow.steps is 2.0; expected an integer", ""),
        ("[fit]\nbetas = [0.9]", r"fit.betas is \[0.9\]; expected 2 numbers in a list", ""),
        ("[fit]\nema = nan", "fit.ema is nan; expected a number", ""),
        ("[fit]\nschedule = 'linear'", "fit.schedule is 'linear'", "use published, cosine or constant"),
        ("flow = 3", "flow is a value", "write [flow]"),
        ("[flow", "not valid TOML", "mend that line"),
    ],
)
def test_wrong_files_say_what_and_where(text, message, next_step):
    with pytest.raises(ConfigError, match=f"mine.toml: .*{message}") as caught:
        FIT.parse_toml(text, "mine.toml")
    assert caught.value.next_step == next_step


def test_overrides_are_typed():
    config = FIT.apply_overrides(
        RunConfig(),
        [
            "fit.learning_rate=2e-4",
            "fit.iterations=1_000",
            "fit.flips=no",
            "flow.shift=mixture:4",
            "encoder.blocks=3",
            "encoder.stacked_blocks=0,2",
            "fit.betas=[0.5, 0.9]",
        ],
    )
    assert (config.fit.learning_rate, config.fit.iterations, config.fit.flips) == (2e-4, 1000, False)
    assert (config.flow.shift, config.flow.components) == ("mixture:4", 4)
    assert (config.encoder.blocks, config.encoder.stacked_blocks, config.fit.betas) == (3, (0, 2), (0.5, 0.9))


@pytest.mark.parametrize(
    ("override", "message", "next_step"),
    [
        ("fit.learnin_rate=1", "unknown key 'fit.learnin_rate'", "did you mean 'fit.learning_rate'?"),
        ("learning_rate=1", "unknown key 'learning_rate'", "did you mean 'fit.learning_rate'?"),
        ("fit.flips=maybe", "fit.flips is 'maybe'; expected true or false", ""),
        ("fit.learning_rate=inf", "fit.learning_rate is 'inf'; expected a number", ""),
        ("fit.batch_size=2.5", "fit.batch_size is '2.5'; expected an integer", ""),
        ("fit.betas=0.9", "fit.betas is '0.9'; expected 2 numbers in a list", ""),
        ("flow.shift=mixture", "flow.shift is 'mixture'", "use correlated, diagonal, post-hoc or mixture:K"),
        ("encoder.blocks=3", "encoder.stacked_blocks names block 8", "blocks are counted from 0"),
    ],
)
def test_wrong_overrides_name_key_value_and_expectation(override, message, next_step):
    with pytest.raises(ConfigError, match=message) as caught:
        FIT.apply_overrides(RunConfig(), [override])
    assert caught.value.next_step.startswith(next_step)


def test_neither_steps_nor_time_is_refused():
    with pytest.raises(ConfigError, match=r"neither fit\.iterations nor fit\.time_budget"):
        FIT.apply_overrides(RunConfig(), ["fit.iterations=0"])


@pytest.mark.parametrize("module", [reader, values, durations], ids=lambda module: module.__name__)
def test_examples_of_the_documentation(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
