"""Scripts: exit codes, JSON and completion are as their page says, for every command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import typer.main

from deflow_cli.cli.guard import INTERRUPTED
from deflow_cli.cli.main import EXIT_CODES, app

PAGE = (Path(__file__).parents[2] / "docs/scripting.md").read_text(encoding="utf-8")


def commands(group=None, prefix=""):
    """Every command of the program by its words."""
    group = group or typer.main.get_command(app)
    found = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= commands(command, f"{prefix}{name} ")
        else:
            found[f"{prefix}{name}"] = command
    return found


def test_the_page_lists_the_commands_with_json():
    having = {
        name for name, command in commands().items() if "--json" in str([p.opts for p in command.params])
    }
    listed = re.search(r"The commands that have it:\n(.*?)\.", PAGE, re.S).group(1)
    assert set(re.findall(r"`([^`]+)`", listed)) == having


def test_the_page_has_the_exit_codes_of_the_help():
    codes = dict(re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.M))
    assert codes.keys() == {"0", "1", "2", str(INTERRUPTED)}
    said = dict(re.findall(r"(\d+), (.*?)(?:\.|$)", EXIT_CODES.replace(" An image", "")))
    for code, meaning in codes.items():
        assert meaning.startswith(said[code].split(":")[0].split(",")[0])


def test_completion_proposes_commands_and_options():
    words = "deflow de"
    script = (
        "import os, sys; os.environ.update(_DEFLOW_COMPLETE='complete_bash', COMP_WORDS=sys.argv[1], "
        "COMP_CWORD='1'); from deflow_cli.cli.main import app; app(prog_name='deflow')"
    )
    done = subprocess.run([sys.executable, "-c", script, words], capture_output=True, text=True, check=False)
    assert {"degrade", "demo"} <= set(done.stdout.split()), done.stderr
