"""Values: what a key of a configuration may hold, read from TOML or from text, and written as TOML."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import get_args, get_origin

from deflow_cli.config.checks import choices_of

Scalar = bool | int | float | str
Value = Scalar | tuple[Scalar, ...]

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_ONE = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
_SEVERAL = {int: "integers", float: "numbers"}


@dataclass(frozen=True)
class ValueType:
    """The type of a key: one scalar, or a list of scalars of one type.

    item: the scalar's type. is_list: whether the key holds a list. length: of that list; None: any.

    >>> ValueType.of(tuple[float, float]).from_text("0.9, 0.99")
    (0.9, 0.99)
    >>> ValueType.of(tuple[int, ...]).expectation
    'a list of integers'
    """

    item: type
    is_list: bool = False
    length: int | None = None

    @classmethod
    def of(cls, hint: object) -> ValueType:
        """The type that an annotation states.

        A ``Literal`` counts as the type of its values: the configuration itself checks which they are.
        """
        if choices := choices_of(hint):
            return cls(type(choices[0]))
        if get_origin(hint) is tuple:
            items = get_args(hint)
            return cls(items[0], is_list=True, length=None if Ellipsis in items else len(items))
        assert isinstance(hint, type)
        return cls(hint)

    @property
    def expectation(self) -> str:
        """The type in the user's words."""
        if not self.is_list:
            return _ONE[self.item]
        items = _SEVERAL[self.item]
        return f"a list of {items}" if self.length is None else f"{self.length} {items} in a list"

    def from_toml(self, value: object) -> Value:
        """Check a value that TOML holds; integers serve as floats. Raises TypeError or ValueError."""
        if not self.is_list:
            return self._scalar(value)
        if not isinstance(value, list | tuple):
            raise TypeError
        self._check_length(len(value))
        return tuple(self._scalar(item) for item in value)

    def from_text(self, text: str) -> Value:
        """Parse the text of an override. Raises ValueError."""
        if not self.is_list:
            return self._parse(text)
        parts = [part for part in re.split(r"[,\s]+", text.strip("[]() ")) if part]
        self._check_length(len(parts))
        return tuple(self._parse(part) for part in parts)

    def _check_length(self, length: int) -> None:
        if self.length not in (None, length):
            raise ValueError

    def _scalar(self, value: object) -> Scalar:
        # bool is a subclass of int: `steps = true` must not pass as 1.
        if isinstance(value, bool):
            accepted = self.item is bool
        elif isinstance(value, int) and self.item is float:
            return float(value)
        else:
            accepted = type(value) is self.item and not (
                isinstance(value, float) and not math.isfinite(value)
            )
        if not accepted or not isinstance(value, bool | int | float | str):
            raise TypeError
        return value

    def _parse(self, text: str) -> Scalar:
        if self.item is bool:
            if text.lower() not in _WORDS:
                raise ValueError
            return _WORDS[text.lower()]
        if self.item is int:
            return int(text)
        if self.item is float:
            number = float(text)
            if not math.isfinite(number):
                raise ValueError
            return number
        return text.strip("\"'")


def toml_value(value: Value) -> str:
    """A value as TOML text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, str):
        # A JSON string is a TOML basic string, but for surrogates: bytes of a path that are no UTF-8 stay as
        # they are, for TOML has no escapes for them.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)  # of a finite float, a TOML float
