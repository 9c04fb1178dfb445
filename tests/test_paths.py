"""Paths: temporary names are short, and those of killed processes are cleared away."""

import os
import subprocess
import sys
from pathlib import Path

from deflow_cli.paths import clear_temporaries, temporary_beside


def test_temporary_names_are_short_and_differ() -> None:
    path = Path("folder") / ("n" * 255)
    names = [temporary_beside(path) for _ in range(3)]
    assert len(set(names)) == 3
    assert all(name.parent == path.parent and len(name.name) < 64 for name in names)
    assert all(name.name.startswith(".") for name in names)


def left_by_a_killed_process(folder: Path) -> Path:
    """A temporary file, as a process that is gone has left it."""
    code = "from deflow_cli.paths import *; path = temporary_beside(Path('a.png')); path.touch(); print(path)"
    root = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return folder / done.stdout.strip()


def test_only_what_dead_processes_of_this_machine_left_is_cleared(tmp_path: Path) -> None:
    dead = left_by_a_killed_process(tmp_path)
    alive = temporary_beside(tmp_path / "a.png")
    elsewhere = dead.with_name(dead.name.replace(dead.name.split("-")[1], "00000000"))
    for path in (alive, elsewhere, tmp_path / ".deflow-other.tmp"):
        path.touch()
    clear_temporaries(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([alive, elsewhere, tmp_path / ".deflow-other.tmp"])
    clear_temporaries(tmp_path / "none")
