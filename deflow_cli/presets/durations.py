"""Durations: times such as 10m or 1.5h, as texts that users write."""

from __future__ import annotations

import re

from deflow_cli.errors import ConfigError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h)?", re.IGNORECASE)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds in ``90s``, ``10m``, ``2h``, ``1.5h`` or ``600``. Raises ConfigError otherwise.

    >>> parse_duration("1.5h")
    5400.0
    """
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[(match[2] or "s").lower()] if match else 0.0
    if seconds <= 0:
        raise ConfigError(f"{text!r} is no duration above zero", next_step="write 90s, 10m, 2h or seconds")
    return seconds
