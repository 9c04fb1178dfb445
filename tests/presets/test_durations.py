"""Durations: times as users write them, in seconds."""

from __future__ import annotations

import pytest

from deflow_cli.errors import ConfigError
from deflow_cli.presets.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("600", 600), (" 2 M", 120)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5m", "10 days", "m", "1e3"])
def test_what_is_no_duration(text):
    with pytest.raises(ConfigError, match="duration"):
        parse_duration(text)
