"""Identity: which file a model is, and what the reports of all kinds of models share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")


@dataclass(frozen=True)
class FileIdentity:
    """Which file it is. bytes: its size. sha256: of its content."""

    path: str
    title: str
    date: str
    version: str
    bytes: int
    sha256: str


def file_identity(path: Path, facts: Mapping[str, Any]) -> FileIdentity:
    """The identity of a file that was read with these facts."""
    content = path.read_bytes()
    return FileIdentity(
        path=str(path),
        title=str(facts.get("title", path.stem)),
        date=str(facts.get("date", "")),
        version=str(facts.get("version", "")),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


@dataclass(frozen=True)
class MultiplyAdds:
    """Multiply-adds per pixel of the larger image, without what is done once per model.

    features: from the conditioning image to all that depends on it alone, once per image. encode: the flow
    forward. decode: the flow backward, once per sample.
    """

    features: int
    encode: int
    decode: int


def counted(work: Callable[[], T], pixels: int) -> tuple[T, int]:
    """What some work returns, and its multiply-adds per pixel."""
    with FlopCounterMode(display=False) as counter:
        result = work()
    return result, round(counter.get_total_flops() / 2 / pixels)


def count_parameters(module: nn.Module | None) -> int:
    """Numbers that a module learns; 0 where there is none."""
    return 0 if module is None else sum(p.numel() for p in module.parameters())
