"""Arguments: what the functions of the API make of them."""

from __future__ import annotations

from pathlib import Path

from deflow_cli.errors import ConfigError


def path_or_none(given: str | Path | None) -> Path | None:
    """A path of a text; None stays what it is."""
    return None if given is None else Path(given)


def temperature_range(temperature: float | tuple[float, float]) -> tuple[float, float]:
    """Lowest and highest temperature. Raises ConfigError unless they rise from 0 or above."""
    low, high = temperature if isinstance(temperature, tuple) else (temperature, temperature)
    if not 0 <= low <= high < float("inf"):
        raise ConfigError(
            f"temperature is {temperature!r}", next_step="pass 0.8, or a rising range such as (0.6, 1.2)"
        )
    return float(low), float(high)
