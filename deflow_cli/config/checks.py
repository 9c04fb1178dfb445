"""Checks: what every section of a configuration asks of its values, without torch."""

from __future__ import annotations

from deflow_cli.errors import ConfigError


def require(condition: bool, message: str, next_step: str = "") -> None:
    if not condition:
        raise ConfigError(message, next_step=next_step)
