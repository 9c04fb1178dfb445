"""Host: a folder of degradations as wtp_dataset_destroyer documents it, to try the adapter in.

Files ``*_degr.py`` of ``src/process`` are imported by themselves; ``src/utils/registry.py`` keeps classes by
name; a class is made of a block's dict, and ``run(lq, hq)`` is called from threads.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

REGISTRY = """
registered_classes = {}


def register_class(key):
    def keep(made):
        registered_classes[key] = made
        return made

    return keep
"""


def lay_out(root: Path) -> Path:
    """The host's folders; returns the one for degradations."""
    for name in ("src", "src/utils", "src/process"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "__init__.py").touch()
    (root / "src/utils/registry.py").write_text(REGISTRY)
    return root / "src/process"


@contextmanager
def started(root: Path) -> Iterator[dict[str, Any]]:
    """The registered classes, after every degradation was imported."""
    sys.path.insert(0, str(root))
    try:
        for file in sorted((root / "src/process").glob("*_degr.py")):
            import_module(f"src.process.{file.stem}")
        yield import_module("src.utils.registry").registered_classes
    finally:
        sys.path.remove(str(root))
        for name in [name for name in sys.modules if name == "src" or name.startswith("src.")]:
            del sys.modules[name]
