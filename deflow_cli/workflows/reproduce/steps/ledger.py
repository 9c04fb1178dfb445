"""State: which steps of an experiment are done, so that a step is done again only where its inputs changed.

A step's digest is of its settings and of the digests of the steps it needs. A file for each step says that it
has begun; once all its outputs are written, that file says, written last and atomically, that it is done and
what came of it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.errors import DataError
from deflow_cli.texts import encoded, json_text

Value = str | int | float | bool | None | Sequence["Value"] | Mapping[str, "Value"]
Facts = Mapping[str, Value]
Condition = Literal["done", "interrupted", "changed", "new"]
REPLACED = "replaced"  # folder of the outputs that steps done again have replaced
_KIND, _VERSION = "deflow-reproduce-step", 1


class Step(Protocol):
    """What the ledger must know of a step."""

    @property
    def name(self) -> str:
        """Unique in an experiment, such as ``fit/deflow/seed0``; its folder below the experiment's."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the steps whose outputs it reads."""

    @property
    def settings(self) -> Facts:
        """All that its outputs depend on, apart from those steps."""


@dataclass(frozen=True)
class Standing:
    """How a step stands. why: what changed since it was done, in words."""

    condition: Condition
    why: str = ""


class Ledger:
    """The records of an experiment's steps, below its folder."""

    def __init__(self, out: Path, steps: Sequence[Step]) -> None:
        self.out = out
        self._steps = {step.name: step for step in steps}
        self._digests: dict[str, str] = {}

    def folder(self, name: str) -> Path:
        """Where a step writes."""
        return self.out / name

    def digest(self, name: str) -> str:
        """Of a step's settings and of all that it needs."""
        if name not in self._digests:
            step = self._steps[name]
            content = {"settings": step.settings, "needs": {need: self.digest(need) for need in step.needs}}
            text = json.dumps(content, sort_keys=True)
            self._digests[name] = hashlib.sha256(encoded(text)).hexdigest()
        return self._digests[name]

    def standing(self, name: str) -> Standing:
        """Whether a step is done, was interrupted, or must be done again, and why."""
        record = self._read(name)
        if record is None:
            return Standing("new")
        if record["digest"] != self.digest(name):
            return Standing("changed", self._what_changed(name, record))
        if record["done"] and self.folder(name).exists():
            return Standing("done")
        return Standing("interrupted" if self.folder(name).exists() else "new")

    def _what_changed(self, name: str, record: Mapping[str, Value]) -> str:
        step, before = self._steps[name], record["settings"]
        then, now = _flat(before), _flat(json.loads(json.dumps(step.settings)))  # tuples become lists
        differing = sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))
        if differing:
            shown = [f"{key} was {then.get(key)}, is {now.get(key)}" for key in differing[:3]]
            return "; ".join((*shown, *([f"and {len(differing) - 3} more"] if len(differing) > 3 else [])))
        needs = record["needs"]
        assert isinstance(needs, Mapping)
        changed = [need for need in step.needs if needs.get(need) != self.digest(need)]
        return f"it needs {', '.join(changed) or 'other steps than before'}"

    def begin(self, name: str) -> Path:
        """Record that a step begins; returns its folder. Outputs of other settings are moved away from it."""
        folder = self.folder(name)
        if self.standing(name).condition == "changed" and folder.exists():
            kept = self.kept(name)
            kept.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(kept)
        self._write(name, done=False, result={})
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def kept(self, name: str) -> Path:
        """Where the outputs of a step are moved to that is done again: they may be of days of training."""
        places = (self.out / REPLACED / f"{name.replace('/', '.')}.{number}" for number in itertools.count(1))
        return next(place for place in places if not place.exists())

    def finish(self, name: str, result: Facts) -> None:
        """Record that a step is done, and what came of it."""
        self._write(name, done=True, result=result)

    def result(self, name: str) -> Facts:
        """What came of a step that is done."""
        record = self._read(name)
        assert record is not None
        assert record["done"], f"{name} is not done"
        result = record["result"]
        assert isinstance(result, Mapping)
        return result

    def _path(self, name: str) -> Path:
        return self.out / "steps" / f"{name.replace('/', '.')}.json"

    def _read(self, name: str) -> Mapping[str, Value] | None:
        path = self._path(name)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path}: cannot be read ({error})", next_step="remove it, and that step is done again"
            ) from error
        if not isinstance(record, dict) or (record.get("kind"), record.get("version")) != (_KIND, _VERSION):
            raise DataError(f"{path}: not a record of a step", next_step="use another folder as --out")
        return record

    def _write(self, name: str, *, done: bool, result: Facts) -> None:
        step = self._steps[name]
        record = {
            "kind": _KIND,
            "version": _VERSION,
            "done": done,
            "digest": self.digest(name),
            "settings": step.settings,
            "needs": {need: self.digest(need) for need in step.needs},
            "result": result,
        }
        write_atomically(self._path(name), (json_text(record, indent=1) + "\n").encode())


def _flat(value: Value, prefix: str = "") -> dict[str, Value]:
    """Nested settings by dotted keys."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    found: dict[str, Value] = {}
    for key, item in value.items():
        found |= _flat(item, f"{prefix}.{key}" if prefix else key)
    return found
