"""Presets: named run configurations as TOML, their reader, writer and overrides."""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from ..config import EncoderConfig, FitConfig, FlowConfig, RunConfig
from ..errors import ConfigError

SECTIONS: dict[str, type] = {"flow": FlowConfig, "encoder": EncoderConfig, "fit": FitConfig}

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h)?", re.IGNORECASE)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def preset_names() -> list[str]:
    """Names of the presets that come with the package, sorted."""
    return sorted(
        entry.name[:-5] for entry in resources.files(__name__).iterdir() if entry.name.endswith(".toml")
    )


def load_preset(name_or_path: str | Path) -> RunConfig:
    """Read a packaged preset by name, or a TOML file by path; keys left out keep their defaults.

    Raises ConfigError for an unknown name, a missing or broken file, an unknown key, a wrong value.
    """
    name = str(name_or_path)
    if name in preset_names():
        return parse_toml(
            resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8"), name
        )
    path = Path(name_or_path)
    if not path.is_file():
        if path.suffix == ".toml":
            raise ConfigError(f"{name}: no such preset file", next_step="check the path")
        known = ", ".join(preset_names())
        raise ConfigError(
            f"{name!r} is no preset",
            next_step=f"{_nearest(name, preset_names())}; presets are {known}, or a .toml file",
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{name}: cannot be read as text ({error})", next_step="pass a TOML file"
        ) from error
    return parse_toml(text, name)


def parse_toml(text: str, origin: str) -> RunConfig:
    """Build a configuration from TOML text; `origin` names it in errors (ConfigError)."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: not valid TOML: {error}", next_step="mend that line") from error
    sections: dict[str, Any] = {}
    for section, table in tables.items():
        if section not in SECTIONS:
            raise ConfigError(f"{origin}: unknown section {section!r}", next_step=_nearest(section, SECTIONS))
        if not isinstance(table, dict):
            raise ConfigError(
                f"{origin}: {section} is a value, not a section", next_step=f"write [{section}]"
            )
        values = {key: _from_toml(f"{section}.{key}", value, origin) for key, value in table.items()}
        try:
            sections[section] = SECTIONS[section](**values)
        except ConfigError as error:
            raise ConfigError(f"{origin}: {error}", next_step=error.next_step) from error
    return RunConfig(**sections)


def apply_overrides(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """Replace values by texts such as ``fit.learning_rate=2e-4``; all are applied, then checked together.

    Raises ConfigError naming the key, the value and what was expected; for unknown keys, the nearest name.
    """
    changed: dict[str, dict[str, Any]] = {}
    for (section, name), value in parse_overrides(overrides).items():
        changed.setdefault(section, {})[name] = value
    return replace(config, **{s: replace(getattr(config, s), **values) for s, values in changed.items()})


def parse_overrides(overrides: Iterable[str]) -> dict[tuple[str, str], Any]:
    """Typed values of ``section.key=value`` texts by (section, key); the last of a key wins.

    Raises ConfigError as `apply_overrides` does, but for what only whole configurations can show.
    """
    values: dict[tuple[str, str], Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(
                f"--set: {override!r} sets nothing", next_step="write fit.seed=1: section, key and value"
            )
        section, name = _locate(key.strip(), "--set")
        values[section, name] = _from_text(key.strip(), text.strip())
    return values


def to_toml(config: RunConfig) -> str:
    """Write every value of a configuration; ``parse_toml`` of it gives an equal configuration."""
    lines: list[str] = []
    for section in SECTIONS:
        part = getattr(config, section)
        lines += ["" if lines else "# A deflow run: read it back with --preset FILE.toml", f"[{section}]"]
        lines += [f"{field.name} = {_toml_value(getattr(part, field.name))}" for field in fields(part)]
    return "\n".join(lines) + "\n"


def parse_duration(text: str) -> float:
    """Seconds in ``90s``, ``10m``, ``2h``, ``1.5h`` or ``600``. Raises ConfigError otherwise."""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[(match[2] or "s").lower()] if match else 0.0
    if seconds <= 0:
        raise ConfigError(f"{text!r} is no duration above zero", next_step="write 90s, 10m, 2h or seconds")
    return seconds


def _nearest(name: str, names: Iterable[str]) -> str:
    """The known name closest to a mistyped one, as a next step."""
    known = list(names)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


def _keys() -> list[str]:
    return [f"{section}.{field.name}" for section, kind in SECTIONS.items() for field in fields(kind)]


def _locate(key: str, origin: str) -> tuple[str, str]:
    """Split a dotted key that exists."""
    if key not in (keys := _keys()):
        same_name = [k for k in keys if k.partition(".")[2] == key.rpartition(".")[2]]
        hint = f"did you mean {same_name[0]!r}?" if same_name else _nearest(key, keys)
        raise ConfigError(f"{origin}: unknown key {key!r}", next_step=hint)
    section, _, name = key.partition(".")
    return section, name


def _hint(section: str, name: str) -> Any:
    return get_type_hints(SECTIONS[section])[name]


def _expectation(hint: Any) -> str:
    """A type hint in the user's words."""
    if get_origin(hint) is tuple:
        items = get_args(hint)
        of = {int: "integers", float: "numbers"}[items[0]]
        return f"a list of {of}" if Ellipsis in items else f"{len(items)} {of} in a list"
    return {bool: "true or false", int: "an integer", float: "a number", str: "a text"}[hint]


def _from_toml(key: str, value: Any, origin: str) -> Any:
    """Check a TOML value against the type of its key; integers serve as floats, lists as tuples."""
    section, name = _locate(key, origin)
    hint = _hint(section, name)
    try:
        return _coerce(value, hint)
    except (TypeError, ValueError):
        raise ConfigError(f"{origin}: {key} is {value!r}; expected {_expectation(hint)}") from None


def _coerce(value: Any, hint: Any) -> Any:
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError
        items = get_args(hint)
        if Ellipsis not in items and len(items) != len(value):
            raise ValueError
        return tuple(_coerce(item, items[0]) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    # bool is a subclass of int: `steps = true` must not pass as 1.
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise TypeError
    return value


def _from_text(key: str, text: str) -> Any:
    """Parse the text of an override by the type of its key."""
    section, name = _locate(key, "--set")
    hint = _hint(section, name)
    try:
        return _parse(text, hint)
    except ValueError:
        raise ConfigError(f"--set: {key} is {text!r}; expected {_expectation(hint)}") from None


def _parse(text: str, hint: Any) -> Any:
    if get_origin(hint) is tuple:
        items = get_args(hint)
        parts = [part for part in re.split(r"[,\s]+", text.strip("[]() ")) if part]
        if Ellipsis not in items and len(items) != len(parts):
            raise ValueError
        return tuple(_parse(part, items[0]) for part in parts)
    if hint is bool:
        words: Mapping[str, bool] = {
            "true": True,
            "yes": True,
            "1": True,
            "false": False,
            "no": False,
            "0": False,
        }
        if text.lower() not in words:
            raise ValueError
        return words[text.lower()]
    if hint is int:
        return int(text)
    if hint is float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError
        return number
    return text.strip("\"'")


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml_value(item) for item in value)}]"
    # JSON strings are TOML basic strings; repr of a finite float is a TOML float.
    return json.dumps(value) if isinstance(value, str) else repr(value)
