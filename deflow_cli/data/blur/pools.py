"""Pools: a folder of estimated kernels, with a list of what each one is and of what failed."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from deflow_cli.arrays import Array
from deflow_cli.config.kernels import KernelSettings
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.paths import POOL_FILE, is_below
from deflow_cli.texts import json_text

_KIND, _VERSION = "deflow-kernels", 1


@dataclass(frozen=True)
class KernelRecord:
    """One kernel. image: below the folder of pictures, with its checksum. file: below the folder of kernels.

    covariance: 2 x 2 in px^2, y and x, of the large picture of which every scale-th pixel is kept. narrow,
    wide: its standard deviations in px. angle: of the wide axis in degrees, from x to the right towards y
    downwards. contrast: what is left of the finest detail that the small picture can hold, along the narrow
    and the wide axis, 0 to 1. sharpness: the same in words. found: what the method tells of itself.
    """

    image: str
    image_sha256: str
    file: str
    covariance: list[list[float]]
    narrow: float
    wide: float
    angle: float
    contrast: list[float]
    sharpness: str
    seconds: float
    found: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class KernelPool:
    """What ``kernels.json`` says. failed: picture and reason."""

    settings: KernelSettings
    records: Sequence[KernelRecord] = ()
    failed: Sequence[tuple[str, str]] = ()

    def text(self, facts: Mapping[str, Any]) -> str:
        """The file's text. facts: of the program and the machine."""
        content = {
            "kind": _KIND,
            "version": _VERSION,
            **facts,
            **asdict(self.settings),
            "kernels": [asdict(record) for record in self.records],
            "failed": [list(item) for item in self.failed],
        }
        return json_text(content, indent=1) + "\n"


def read_pool(folder: Path) -> KernelPool | None:
    """What a folder of kernels says of itself; None where it says nothing, as those of other programs.

    Raises DataError for a list that cannot be read.
    """
    path = folder / POOL_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["kind"] != _KIND or content["version"] != _VERSION:
            raise ValueError("another kind or version")
        names = (entry.name for entry in fields(KernelSettings))
        settings = KernelSettings(**{name: content[name] for name in names})
        records = tuple(KernelRecord(**record) for record in content["kernels"])
        if outside := [record.file for record in records if not is_below(record.file)]:
            raise ValueError(f"it names a file outside the folder: {outside[0]!r}")
        failed = tuple((str(image), str(reason)) for image, reason in content["failed"])
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise DataError(
            f"{path}: not a list of kernels that this deflow reads ({error})",
            next_step="remove it, or make the kernels again in another folder",
        ) from error
    return KernelPool(settings, records, failed)


def kernel_bytes(kernel: Array) -> bytes:
    """A kernel as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(kernel, dtype=np.float64), allow_pickle=False)
    return buffer.getvalue()
