"""Checks: every field typed as a closed set of values refuses any other, and names the ones there are."""

from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

import pytest

from deflow_cli.config.checks import choices_of, in_words
from deflow_cli.config.fit import FitConfig
from deflow_cli.config.model import FlowConfig
from deflow_cli.config.restorer import GanStage, LossConfig, PsnrStage, SrFitConfig
from deflow_cli.config.translation import TranslationFitConfig
from deflow_cli.errors import ConfigError

SECTIONS = {
    "flow": FlowConfig,
    "fit": FitConfig,
    "loss": LossConfig,
    "psnr": PsnrStage,
    "gan": GanStage,
    "sr": SrFitConfig,
}
CLOSED = [
    (section, field.name)
    for section, kind in SECTIONS.items()
    for field in fields(kind)
    if choices_of(get_type_hints(kind)[field.name])
]


def test_closed_sets_are_found():
    assert {("flow", "splits"), ("fit", "schedule"), ("gan", "schedule"), ("sr", "select")} <= set(CLOSED)


@pytest.mark.parametrize(("section", "name"), CLOSED)
def test_a_value_outside_a_closed_set_is_refused(section, name):
    choices = choices_of(get_type_hints(SECTIONS[section])[name])
    with pytest.raises(ConfigError, match=rf"^{section}\.{name} is 'other'$") as caught:
        SECTIONS[section](**{name: "other"})
    assert caught.value.next_step == f"use {in_words(choices)}"
    for value in choices:
        assert getattr(SECTIONS[section](**{name: value}), name) == value


def test_lists_in_words():
    assert [in_words(choices) for choices in (["a"], ["a", "b"], [2, 4, 8])] == ["a", "a or b", "2, 4 or 8"]


@pytest.mark.parametrize(
    ("section", "kind"), [("fit", FitConfig), ("fit", TranslationFitConfig), ("sr", SrFitConfig)]
)
def test_every_training_has_bounds(section, kind):
    kind(log_every=1, ema=0.0, held_out=0.0, cache_mib=0)
    periods = ("log_every", "validate_every", "preview_every", "checkpoint_every", "max_bad_steps")
    for name in (*periods, "batch_size"):
        with pytest.raises(ConfigError, match=rf"^{section}\.{name} "):
            kind(**{name: 0})
    for name, value in {"ema": 1.0, "held_out": 0.5, "cache_mib": -1, "seed": -1}.items():
        with pytest.raises(ConfigError, match=rf"^{section}\.{name} "):
            kind(**{name: value})
