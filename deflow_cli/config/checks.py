"""Checks: what every section of a configuration asks of its values, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from deflow_cli.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16"]


def require(condition: bool, message: str, next_step: str = "") -> None:
    """Raise ConfigError with a message and what to do next unless a condition holds."""
    if not condition:
        raise ConfigError(message, next_step=next_step)


def choices_of(hint: Any) -> tuple[Any, ...]:
    """The values of a ``Literal`` type; empty for another type."""
    return get_args(hint) if get_origin(hint) is Literal else ()


def in_words(choices: Sequence[object]) -> str:
    """``a, b or c``."""
    *first, last = (str(choice) for choice in choices)
    return f"{', '.join(first)} or {last}" if first else last


def check_choices(section: str, config: Any) -> None:
    """Raise ConfigError for a field of a dataclass that is typed ``Literal`` and holds none of its values.

    section: the configuration's, which users write before the key.
    """
    hints = get_type_hints(type(config))
    for field in fields(config):
        choices, value = choices_of(hints[field.name]), getattr(config, field.name)
        if choices and value not in choices:
            raise ConfigError(f"{section}.{field.name} is {value!r}", next_step=f"use {in_words(choices)}")


def check_least(section: str, config: Any, names: Sequence[str], least: Literal[0, 1]) -> None:
    """Raise ConfigError for a number of a section that is below 0, or below 1."""
    bound = "be at least 1" if least else "not be negative"
    for name in names:
        require(getattr(config, name) >= least, f"{section}.{name} must {bound}")


def check_upkeep(section: str, config: Any, held_out: str) -> None:
    """Raise ConfigError for a bad value of what every training has: averages, a held-out share, periods.

    held_out: of what a share is held out.
    """
    require(0 <= config.ema < 1, f"{section}.ema is a decay, 0 to below 1")
    share = f"{section}.held_out is a share of the {held_out}, 0 to below 0.5"
    require(0 <= config.held_out < 0.5, share)
    periods = ("log_every", "validate_every", "preview_every", "checkpoint_every", "max_bad_steps")
    check_least(section, config, periods, 1)


def check_types(config: Any) -> None:
    """Raise TypeError where a value of a frozen configuration is of another type than its default.

    For what a file states: a dataclass takes whatever it is given.
    """
    for field in fields(config):
        value, default = getattr(config, field.name), field.default
        is_number = type(value) in (int, float) and isinstance(default, float)
        if default is not MISSING and type(value) is not type(default) and not is_number:
            raise TypeError(f"{field.name} is {value!r}")
