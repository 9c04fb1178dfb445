"""Checksums of a data set: the SHA-256 of each of its files, in the format of ``sha256sum``.

They tell a data set that is complete from one that was damaged later, without anything but its folder; users
can check them by ``sha256sum --check sha256sums.txt`` there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

SUMS = "sha256sums.txt"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def sums_text(digests: Mapping[str, str]) -> str:
    """The lines of ``sha256sums.txt``. digests: by the file's name below the data set, with slashes."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def read_sums(target: Path) -> dict[str, str] | None:
    """Name -> digest of the files of a data set; None where there is no readable list."""
    try:
        lines = (target / SUMS).read_text("ascii").splitlines()
    except (OSError, ValueError):
        return None
    found = [_LINE.fullmatch(line) for line in lines]
    return {match[2]: match[1] for match in found if match is not None} if all(found) else None


def digest_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
