"""Wheel: installed into an environment of its own, it runs the README's commands as the checkout does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL_FIT = """
    flow.levels=2 flow.steps=1 flow.hidden_channels=8 flow.condition_channels=8 encoder.channels=8
    encoder.growth_channels=4 encoder.blocks=1 encoder.stacked_blocks=[0] fit.iterations=2 fit.time_budget=0
    fit.batch_size=4 fit.patch_size=32 fit.leak_test=false fit.report=false
"""
UV = shutil.which("uv")
pytestmark = pytest.mark.slow(seconds=40)  # an environment is made first


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of the programs of an environment that holds the wheel and what it depends on, no more."""
    if UV is None:
        pytest.skip("uv is not on the path")
    folder = tmp_path_factory.mktemp("wheel")
    python = folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    for command in (
        ["build", "--wheel", "--quiet", "--out-dir", str(folder / "dist"), str(ROOT)],
        ["venv", "--quiet", "--python", sys.executable, str(folder / "env")],
        ["pip", "install", "--quiet", "--python", str(python)],
    ):
        wheel = [str(path) for path in (folder / "dist").glob("*.whl")] if command[0] == "pip" else []
        done = subprocess.run([UV, *command, *wheel], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return python.parent


@pytest.fixture(scope="module")
def deflow(installed, tmp_path_factory):
    """Runs the installed program in an empty folder that the tests share."""
    working = tmp_path_factory.mktemp("working")
    hidden = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "DEFLOW_DATA", "DEFLOW_GOLDEN")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}

    def run(*args):
        done = subprocess.run(
            [installed / "deflow", *args],
            cwd=working,
            env=environment | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.working = working
    return run


def test_the_commands_of_the_readme(deflow):
    working = deflow.working
    deflow("demo", "--data-only", "--out", "data")
    clean, noisy = ("data/" + name for name in ("clean", "noisy"))
    first = sorted((working / clean).iterdir())[0]
    assert "embedded" in deflow("degrade", str(first), "degraded.png")
    settings = [part for setting in SMALL_FIT.split() for part in ("--set", setting)]
    deflow("fit", clean, noisy, *settings)
    assert "shift" in deflow("inspect", "runs/noisy")
    shutil.copytree(first.parent, working / "photos", ignore=lambda folder, names: sorted(names)[1:])
    deflow("make-pairs", "photos", "pairs", "--scale", "4", "--crop", "256")
    assert len(list((working / "pairs/gt").iterdir())) == len(list((working / "pairs/lq").iterdir())) > 1
    table = deflow("score", "pairs/lq", "--metrics", "niqe,piqe", "--html", "scores.html")
    assert "niqe" in table.lower()
    assert (working / "scores.html").stat().st_size > 10_000


def test_nothing_is_imported_from_the_checkout(installed):
    shown = subprocess.run(
        [installed / "python", "-c", "import deflow_cli; print(deflow_cli.__file__)"],
        cwd=installed,
        capture_output=True,
        text=True,
        check=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    ).stdout
    assert str(ROOT) not in shown
    assert "site-packages" in shown
