"""Documentation: the modules that pages name exist, and the command line's reference is fresh."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "deflow_cli"
DOCS = ROOT / "docs"
DECISIONS = sorted(DOCS.glob("decisions/*.md"))
PAGES = [
    "architecture.md",
    "contributing.md",
    "security.md",
    *(f"decisions/{path.name}" for path in DECISIONS),
]


@pytest.mark.parametrize("page", PAGES)
def test_named_modules_exist(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    named = [name for name in re.findall(r"`([\w/]+/\w+\.py)`", text) if not Path(name).stem.isupper()]
    missing = {name for name in named if not any((base / name).is_file() for base in (PACKAGE, ROOT))}
    assert not missing


def test_the_map_names_every_folder() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    folders = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")} - {"."}
    assert [folder for folder in sorted(folders) if not re.search(rf"\b{Path(folder).name}/", text)] == []


def test_reference_of_the_command_line_is_fresh(tmp_path: Path) -> None:
    command = ["deflow_cli.cli.main", "utils", "docs", "--name", "deflow"]
    command += ["--title", "deflow: the command line"]
    target = tmp_path / "cli.md"
    subprocess.run([sys.executable, "-m", "typer", *command, "--output", target], cwd=ROOT, check=True)
    assert target.read_text(encoding="utf-8") == (DOCS / "cli.md").read_text(encoding="utf-8")
