"""Texts: names of files that are not UTF-8, in hashes, in files and in JSON.

A file name is a string of bytes. Python keeps those that are not UTF-8 as lone surrogates (PEP 383,
``surrogateescape``), which no encoder takes and no reader of JSON has to. What may hold a name goes through
these functions.
"""

from __future__ import annotations

import json
import re
from typing import Any

_ESCAPED = re.compile("[\ud800-\udfff]")


def encoded(text: str) -> bytes:
    r"""UTF-8, in which names have the bytes that they have on the disk: for hashes and for files of text.

    >>> encoded("caf\udce9.png")
    b'caf\xe9.png'
    """
    return text.encode("utf-8", "surrogateescape")


def readable(text: str) -> str:
    r"""The text with such bytes written out, which any program reads, and which names no file any more.

    >>> print(readable("caf\udce9.png"))
    caf\xe9.png
    """
    return _ESCAPED.sub(lambda match: f"\\x{ord(match.group()) & 0xFF:02x}", text)


def json_text(value: Any, *, indent: int | None = None) -> str:
    r"""JSON with readable letters, and lone surrogates escaped: Python reads the same name from it again.

    >>> print(json_text({"é": "caf\udce9.png"}))
    {"é": "caf\udce9.png"}
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
