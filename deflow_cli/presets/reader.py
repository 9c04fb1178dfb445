"""Reader: run configurations as TOML, packaged by name or in a user's file, and overrides of their keys."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

from deflow_cli.config.fit import RunConfig
from deflow_cli.config.restorer import SrConfig
from deflow_cli.config.srflow import SRFlowRunConfig
from deflow_cli.config.translation import CycleGanRunConfig, DasrRunConfig, DsganRunConfig
from deflow_cli.errors import ConfigError, naming
from deflow_cli.presets.values import Value, ValueType, toml_value

C = TypeVar("C", RunConfig, SrConfig, SRFlowRunConfig, DsganRunConfig, DasrRunConfig, CycleGanRunConfig)

_PACKAGE = "deflow_cli.presets"
_PREFIXES = ("sr-", "srflow-", "dsgan-", "dasr-", "cyclegan-")  # of the files that configure no DeFlow


class Presets(Generic[C]):
    """The presets of one kind of run.

    kind: the configuration's class. prefix: of the packaged files' names, which users may leave out.
    title: the first line of a written file. example: an override, for messages.

    >>> FIT.load("tiny").flow.levels
    3
    >>> config = FIT.apply_overrides(FIT.load("base"), ["fit.learning_rate=2e-4", "flow.shift=mixture:4"])
    >>> config.fit.learning_rate, config.flow.components
    (0.0002, 4)
    """

    def __init__(self, kind: type[C], prefix: str, title: str, example: str) -> None:
        self.kind: type[C] = kind
        self.prefix, self.title, self.example = prefix, title, example
        self.sections: dict[str, type] = dict(get_type_hints(kind))

    def names(self) -> list[str]:
        """Names of the presets that come with the package, sorted."""
        files = [entry.name for entry in resources.files(_PACKAGE).iterdir()]
        presets = [name[:-5] for name in files if name.endswith(".toml") and _prefix_of(name) == self.prefix]
        return sorted(name.removeprefix(self.prefix) for name in presets)

    def load(self, name_or_path: str | Path) -> C:
        """Read a packaged preset by name, or a TOML file by path; keys left out keep their defaults.

        Raises ConfigError for an unknown name, a missing or broken file, an unknown key, a wrong value.
        """
        name = str(name_or_path)
        if name.removeprefix(self.prefix) in self.names():
            name = name.removeprefix(self.prefix)
            file = resources.files(_PACKAGE).joinpath(f"{self.prefix}{name}.toml")
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
            # paths in it have the bytes that they have on the disk
            text = path.read_bytes().decode("utf-8", "surrogateescape")
        except OSError as error:
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
        sections: dict[str, Any] = {}  # dataclasses of the kind's sections
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
            with naming(origin, ConfigError):
                sections[section] = self.sections[section](**values)
        with naming(origin, ConfigError):
            return self.kind(**sections)

    def apply_overrides(self, config: C, overrides: Iterable[str]) -> C:
        """Replace values by texts such as ``fit.learning_rate=2e-4``; all are applied, then checked together.

        Raises ConfigError naming the key, the value and what was expected; for unknown keys, the nearest
        name.
        """
        changed: dict[str, dict[str, Value]] = {}
        for (section, name), value in self.parse_overrides(overrides).items():
            changed.setdefault(section, {})[name] = value
        return replace(config, **{s: replace(getattr(config, s), **values) for s, values in changed.items()})

    def parse_overrides(self, overrides: Iterable[str]) -> dict[tuple[str, str], Value]:
        """Typed values of ``section.key=value`` texts by (section, key); the last of a key wins.

        Raises ConfigError as `apply_overrides` does, except for what only a whole configuration can show.
        """
        values: dict[tuple[str, str], Value] = {}
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

    def ignored_overrides(self, config: C, overrides: Iterable[str]) -> list[str]:
        """Dotted keys of the overrides whose values differ from those of a configuration."""
        return [
            f"{section}.{key}"
            for (section, key), value in self.parse_overrides(overrides).items()
            if getattr(getattr(config, section), key) != value
        ]

    def to_toml(self, config: C) -> str:
        """Write every value of a configuration; ``parse_toml`` of it gives an equal configuration.

        A path that is not UTF-8 keeps its bytes as lone surrogates: write the text by ``texts.encoded``.
        """
        lines: list[str] = []
        for section in self.sections:
            part = getattr(config, section)
            lines += ["" if lines else f"# {self.title}: read it back with --preset FILE.toml"]
            lines += [f"[{section}]"]
            lines += [f"{field.name} = {toml_value(getattr(part, field.name))}" for field in fields(part)]
        return "\n".join(lines) + "\n"

    def _keys(self) -> list[str]:
        return [
            f"{section}.{field.name}" for section, kind in self.sections.items() for field in fields(kind)
        ]

    def _locate(self, key: str, origin: str) -> tuple[str, str]:
        """Split a dotted key into section and name. Raises ConfigError if there is no such key."""
        if key not in (keys := self._keys()):
            same_name = [k for k in keys if k.partition(".")[2] == key.rpartition(".")[2]]
            hint = f"did you mean {same_name[0]!r}?" if same_name else _nearest(key, keys)
            raise ConfigError(f"{origin}: unknown key {key!r}", next_step=hint)
        section, _, name = key.partition(".")
        return section, name

    def _type(self, section: str, name: str) -> ValueType:
        return ValueType.of(get_type_hints(self.sections[section])[name])

    def _from_toml(self, key: str, value: object, origin: str) -> Value:
        kind = self._type(*self._locate(key, origin))
        try:
            return kind.from_toml(value)
        except (TypeError, ValueError):
            raise ConfigError(f"{origin}: {key} is {value!r}; expected {kind.expectation}") from None

    def _from_text(self, key: str, text: str) -> Value:
        kind = self._type(*self._locate(key, "--set"))
        try:
            return kind.from_text(text)
        except ValueError:
            raise ConfigError(f"--set: {key} is {text!r}; expected {kind.expectation}") from None


def _prefix_of(file_name: str) -> str:
    return next((prefix for prefix in _PREFIXES if file_name.startswith(prefix)), "")


def _nearest(name: str, names: Iterable[str]) -> str:
    """The known name closest to a mistyped one, as a next step."""
    known = list(names)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


FIT = Presets(RunConfig, "", "A deflow run", "fit.seed=1")
SR = Presets(SrConfig, "sr-", "A deflow sr-train run", "sr.seed=1")
SRFLOW = Presets(SRFlowRunConfig, "srflow-", "A deflow sr-train --arch srflow run", "sr.seed=1")
DSGAN = Presets(DsganRunConfig, "dsgan-", "A deflow fit --method dsgan run", "fit.seed=1")
DASR = Presets(DasrRunConfig, "dasr-", "A deflow fit --method dasr run", "fit.seed=1")
CYCLEGAN = Presets(CycleGanRunConfig, "cyclegan-", "A deflow fit --method cyclegan run", "fit.seed=1")
