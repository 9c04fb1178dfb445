"""Methods of fit: their presets, each key explained, and which method a file belongs to."""

from __future__ import annotations

import importlib
import tomllib
from dataclasses import fields
from importlib import resources

import pytest

from deflow_cli.degraders.registry import degrader_names
from deflow_cli.errors import ConfigError
from deflow_cli.presets.methods import DEFAULT_METHOD, FIT_METHODS, fit_method, method_of_file

PRESETS = [(method, name) for method in FIT_METHODS if method.trainer for name in method.presets.names()]
IDS = [f"{method.name}-{name}" for method, name in PRESETS]


def _text(method, name):
    file = resources.files("deflow_cli.presets").joinpath(f"{method.presets.prefix}{name}.toml")
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize(("method", "name"), PRESETS, ids=IDS)
def test_a_preset_names_every_key_and_comments_it(method, name):
    text = _text(method, name)
    tables = tomllib.loads(text)
    assert {s: set(table) for s, table in tables.items()} == {
        s: {field.name for field in fields(kind)} for s, kind in method.presets.sections.items()
    }
    for line in text.splitlines():
        if line.partition("#")[0].strip() and not line.startswith("["):
            value, _, comment = line.partition("  # ")
            assert comment.strip(), f"{name}.toml: {value!r} has no comment"


@pytest.mark.parametrize(("method", "name"), PRESETS, ids=IDS)
def test_a_file_tells_its_method_and_reads_as_it_was_written(method, name, tmp_path):
    config = method.presets.load(name)
    path = tmp_path / "config.toml"
    path.write_text(method.presets.to_toml(config))
    assert method.presets.load(path) == config
    assert method_of_file(path) == method


def test_a_path_that_is_not_utf8_does_not_hide_the_method(tmp_path):
    text = fit_method("dsgan").presets.to_toml(fit_method("dsgan").presets.load("paper"))
    (tmp_path / "config.toml").write_bytes(b"# caf\xe9\n" + text.encode())
    assert method_of_file(tmp_path / "config.toml") == fit_method("dsgan")


def test_a_file_of_no_method_tells_none(tmp_path):
    path = tmp_path / "config.toml"
    assert method_of_file(path) is None
    path.write_text("[restorer]\n")
    assert method_of_file(path) is None
    path.write_text("[flow]\nsteps = 2\n")
    assert method_of_file(path) == fit_method(DEFAULT_METHOD)


@pytest.mark.parametrize("method", FIT_METHODS, ids=lambda method: method.name)
def test_each_method_has_its_presets_its_degrader_and_what_trains_it(method):
    assert {method.cpu_preset, method.gpu_preset} <= set(method.presets.names())
    assert method.name in degrader_names()
    if method.trainer is not None:
        module, name = method.trainer
        assert getattr(importlib.import_module(module), name).name == method.name


@pytest.mark.parametrize("method", FIT_METHODS, ids=lambda method: method.name)
def test_its_options_set_keys_that_exist(method):
    keys = [key for key in method.options.values() if key]
    values = {"fit.memory": "low", "flow.downsample": "4"}
    method.presets.parse_overrides([f"{key}={values.get(key, 'none')}" for key in keys])


def test_dsgan_is_published_so():
    config = fit_method("dsgan").presets.load("paper")
    dsgan, fit = config.dsgan, config.fit
    assert (dsgan.channels, dsgan.blocks, dsgan.scale, dsgan.patch_size) == (64, 8, 4, 128)
    assert (dsgan.frequencies, dsgan.normalisation) == ("average", "batch")
    assert (dsgan.colour, dsgan.perceptual, dsgan.adversarial) == (1.0, 0.01, 0.005)
    assert (fit.batch_size, fit.learning_rate, fit.betas, fit.constant_share) == (16, 2e-4, (0.5, 0.999), 0.5)
    assert (fit.iterations, fit.flips, fit.seed) == (2650 // 16 * 300, False, 0)


def test_dasr_is_published_so():
    presets = fit_method("dasr").presets
    config = presets.load("aim")
    dasr, fit = config.dasr, config.fit
    assert (dasr.channels, dasr.blocks, dasr.scale, dasr.patch_size) == (64, 8, 4, 64)
    assert (dasr.frequencies, dasr.normalisation) == ("average", "instance")
    assert (dasr.colour, dasr.perceptual, dasr.adversarial) == (1.0, 0.01, 0.006)
    assert (fit.batch_size, fit.learning_rate, fit.betas) == (8, 1e-4, (0.5, 0.999))
    assert (fit.iterations, fit.constant_share) == (2650 // 8 * 400, 250 / 400)
    assert presets.load("realsr").dasr.large_side == 128
    assert (presets.load("wavelet").dasr.frequencies, presets.load("wavelet").dasr.adversarial) == (
        "wavelet",
        0.03,
    )


def test_cyclegan_is_published_so():
    config = fit_method("cyclegan").presets.load("paper")
    gan, fit = config.cyclegan, config.fit
    assert (gan.channels, gan.blocks, gan.downsample, gan.patch_size, gan.scale) == (64, 9, 0, 128, 4)
    assert (gan.cycle, gan.identity, gan.adversarial, gan.history) == (10.0, 5.0, 1.0, 50)
    assert (fit.batch_size, fit.learning_rate, fit.betas) == (1, 2e-4, (0.5, 0.999))
    assert (fit.iterations, fit.constant_share) == (800 * 200, 0.5)


def test_an_unknown_one_is_told():
    with pytest.raises(ConfigError, match="'gan' is unknown") as caught:
        fit_method("gan")
    assert "deflow, dsgan, dasr, cyclegan" in caught.value.next_step
