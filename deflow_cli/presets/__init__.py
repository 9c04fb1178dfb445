"""Presets: named run configurations as TOML, their reader, writer and overrides."""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from deflow_cli.config.checks import choices_of
from deflow_cli.config.fit import RunConfig
from deflow_cli.config.restorer import SrConfig
from deflow_cli.errors import ConfigError

C = TypeVar("C", RunConfig, SrConfig)

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h)?", re.IGNORECASE)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_FAMILIES = ("sr-",)  # prefixes of the files that are not a fit's


class Presets(Generic[C]):
    """The presets of one kind of run. prefix: of their files' names, which users leave out.

    command: what reads such a file, told in its first line. example: an override, for messages.
    """

    def __init__(self, kind: type[C], prefix: str, command: str, example: str) -> None:
        self.kind: type[C] = kind
        self.prefix, self.command, self.example = prefix, command, example
        self.sections: dict[str, type] = dict(get_type_hints(kind))

    def names(self) -> list[str]:
        """Names of the presets that come with the package, sorted."""
        files = [entry.name for entry in resources.files(__name__).iterdir()]
        own = [name[:-5] for name in files if name.endswith(".toml") and _family(name) == self.prefix]
        return sorted(name.removeprefix(self.prefix) for name in own)

    def load(self, name_or_path: str | Path) -> C:
        """Read a packaged preset by name, or a TOML file by path; keys left out keep their defaults.

        Raises ConfigError for an unknown name, a missing or broken file, an unknown key, a wrong value.
        """
        name = str(name_or_path)
        if name in self.names():
            file = resources.files(__name__).joinpath(f"{self.prefix}{name}.toml")
            return self.parse_toml(file.read_text(encoding="utf-8"), name)
        path = Path(name_or_path)
        if not path.is_file():
            if path.suffix == ".toml":
                raise ConfigError(f"{name}: no such preset file", next_step="check the path")
            known = ", ".join(self.names())
            close = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}? presets are" if close else "use"
            raise ConfigError(f"{name!r} is no preset", next_step=f"{hint} {known}, or a .toml file")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{name}: cannot be read as text ({error})", next_step="pass a TOML file"
            ) from error
        return self.parse_toml(text, name)

    def parse_toml(self, text: str, origin: str) -> C:
        """Build a configuration from TOML text; `origin` names it in errors (ConfigError)."""
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{origin}: not valid TOML: {error}", next_step="mend that line") from error
        sections: dict[str, Any] = {}
        for section, table in tables.items():
            if section not in self.sections:
                raise ConfigError(
                    f"{origin}: unknown section {section!r}", next_step=_nearest(section, self.sections)
                )
            if not isinstance(table, dict):
                raise ConfigError(
                    f"{origin}: {section} is a value, not a section", next_step=f"write [{section}]"
                )
            values = {key: self._from_toml(f"{section}.{key}", v, origin) for key, v in table.items()}
            with _told_by(origin):
                sections[section] = self.sections[section](**values)
        with _told_by(origin):
            return self.kind(**sections)

    def apply_overrides(self, config: C, overrides: Iterable[str]) -> C:
        """Replace values by texts such as ``fit.learning_rate=2e-4``; all are applied, then checked together.

        Raises ConfigError naming the key, the value and what was expected; for unknown keys, the nearest
        name.
        """
        changed: dict[str, dict[str, Any]] = {}
        for (section, name), value in self.parse_overrides(overrides).items():
            changed.setdefault(section, {})[name] = value
        return replace(config, **{s: replace(getattr(config, s), **values) for s, values in changed.items()})

    def parse_overrides(self, overrides: Iterable[str]) -> dict[tuple[str, str], Any]:
        """Typed values of ``section.key=value`` texts by (section, key); the last of a key wins.

        Raises ConfigError as `apply_overrides` does, but for what only whole configurations can show.
        """
        values: dict[tuple[str, str], Any] = {}
        for override in overrides:
            key, equals, text = override.partition("=")
            if not equals:
                raise ConfigError(
                    f"--set: {override!r} sets nothing",
                    next_step=f"write {self.example}: section, key and value",
                )
            section, name = self._locate(key.strip(), "--set")
            values[section, name] = self._from_text(key.strip(), text.strip())
        return values

    def to_toml(self, config: C) -> str:
        """Write every value of a configuration; ``parse_toml`` of it gives an equal configuration."""
        lines: list[str] = []
        for section in self.sections:
            part = getattr(config, section)
            lines += ["" if lines else f"# {self.command}: read it back with --preset FILE.toml"]
            lines += [f"[{section}]"]
            lines += [f"{field.name} = {_toml_value(getattr(part, field.name))}" for field in fields(part)]
        return "\n".join(lines) + "\n"

    def _keys(self) -> list[str]:
        return [
            f"{section}.{field.name}" for section, kind in self.sections.items() for field in fields(kind)
        ]

    def _locate(self, key: str, origin: str) -> tuple[str, str]:
        """Split a dotted key that exists."""
        if key not in (keys := self._keys()):
            same_name = [k for k in keys if k.partition(".")[2] == key.rpartition(".")[2]]
            hint = f"did you mean {same_name[0]!r}?" if same_name else _nearest(key, keys)
            raise ConfigError(f"{origin}: unknown key {key!r}", next_step=hint)
        section, _, name = key.partition(".")
        return section, name

    def _hint(self, section: str, name: str) -> Any:
        hint = get_type_hints(self.sections[section])[name]
        return type(choices[0]) if (choices := choices_of(hint)) else hint  # the configuration checks them

    def _from_toml(self, key: str, value: Any, origin: str) -> Any:
        """Check a TOML value against the type of its key; integers serve as floats, lists as tuples."""
        hint = self._hint(*self._locate(key, origin))
        try:
            return _coerce(value, hint)
        except (TypeError, ValueError):
            raise ConfigError(f"{origin}: {key} is {value!r}; expected {_expectation(hint)}") from None

    def _from_text(self, key: str, text: str) -> Any:
        """Parse the text of an override by the type of its key."""
        hint = self._hint(*self._locate(key, "--set"))
        try:
            return _parse(text, hint)
        except ValueError:
            raise ConfigError(f"--set: {key} is {text!r}; expected {_expectation(hint)}") from None


def _family(file_name: str) -> str:
    return next((prefix for prefix in _FAMILIES if file_name.startswith(prefix)), "")


@contextmanager
def _told_by(origin: str) -> Iterator[None]:
    """Name the file in a configuration's own errors."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}", next_step=error.next_step) from error


FIT = Presets(RunConfig, "", "A deflow run", "fit.seed=1")
SR = Presets(SrConfig, "sr-", "A deflow sr-train run", "sr.seed=1")

# Those of `deflow fit`, by the names that its commands use.
SECTIONS = FIT.sections
preset_names, load_preset, parse_toml = FIT.names, FIT.load, FIT.parse_toml
apply_overrides, parse_overrides, to_toml = FIT.apply_overrides, FIT.parse_overrides, FIT.to_toml


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


def _expectation(hint: Any) -> str:
    """A type hint in the user's words."""
    if get_origin(hint) is tuple:
        items = get_args(hint)
        of = {int: "integers", float: "numbers"}[items[0]]
        return f"a list of {of}" if Ellipsis in items else f"{len(items)} {of} in a list"
    return {bool: "true or false", int: "an integer", float: "a number", str: "a text"}[hint]


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
