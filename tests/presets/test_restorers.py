"""Which kind of restorer a training is of."""

from __future__ import annotations

import pytest

from deflow_cli.errors import ConfigError
from deflow_cli.presets.reader import SR, SRFLOW
from deflow_cli.presets.restorers import is_srflow, size_settings


@pytest.mark.parametrize(
    ("arch", "preset", "expected"),
    [
        (None, None, False),
        ("rrdb", None, False),
        ("srflow", None, True),
        ("srflow", "tiny", True),
        (None, "srflow-tiny", True),
        (None, "tiny", False),
        (None, "no-such.toml", False),
    ],
)
def test_arch_and_preset_say_which(arch, preset, expected):
    assert is_srflow(arch, preset, None) is expected


def test_an_srflows_preset_and_another_arch_contradict_each_other():
    with pytest.raises(ConfigError, match="--preset srflow-tiny is an SRFlow's") as caught:
        is_srflow("rrdb", "srflow-tiny", None)
    assert caught.value.next_step == "leave --arch rrdb out"


@pytest.mark.parametrize(("presets", "expected"), [(SR, False), (SRFLOW, True)])
def test_the_file_of_a_run_says_which(tmp_path, presets, expected):
    (tmp_path / "config.toml").write_text(presets.to_toml(presets.load("tiny")), encoding="utf-8")
    assert is_srflow(None, None, tmp_path) is expected
    assert is_srflow(None, str(tmp_path / "config.toml"), None) is expected
    assert is_srflow(None, None, tmp_path / "elsewhere") is False


def test_names_of_sizes():
    full = SR.apply_overrides(SR.load("tiny"), size_settings("rrdb")).restorer
    assert (full.channels, full.blocks, full.growth_channels) == (64, 23, 32)
    with pytest.raises(ConfigError, match="--arch is 'resnet'") as caught:
        size_settings("resnet")
    assert "rrdb-tiny, or srflow" in caught.value.next_step
