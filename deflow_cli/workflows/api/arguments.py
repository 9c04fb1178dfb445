"""Arguments: what the functions of the API make of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deflow_cli.errors import ConfigError
from deflow_cli.paths import CONFIG_FILE
from deflow_cli.presets.reader import C, Presets
from deflow_cli.runtime.progress import Reporter


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


def run_configuration(
    presets: Presets[C], out: Path, preset: str | C, settings: Sequence[str], reporter: Reporter
) -> C:
    """That of a run that is resumed, which says what it ignores, else the preset with its overrides."""
    if (out / CONFIG_FILE).exists():
        config = presets.load(out / CONFIG_FILE)
        if ignored := presets.ignored_overrides(config, settings):
            reporter.warn(f"a resumed run keeps its own settings; not applied: {', '.join(ignored)}")
        return config
    base = presets.load(preset) if isinstance(preset, str) else preset
    return presets.apply_overrides(base, settings)
