"""Layers: the import contracts of pyproject.toml hold, and no module stands outside them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTRACTS = {"layers", "no-torch", "degraders", "degraders-at-work", "models", "workflows", "no-files"}


def test_arrows_point_down():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    assert {contract["id"] for contract in listed["contracts"]} >= CONTRACTS
    assert f"{len(listed['contracts'])} kept, 0 broken" in done.stdout
