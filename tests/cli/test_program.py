"""The program as a whole: lazy imports, help, version, and how errors are told."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deflow_cli import __version__
from deflow_cli.cli.main import app
from deflow_cli.errors import CheckpointError, DataError

ROOT = Path(__file__).parents[2]
GROUPS = {
    "edit": ["transfer", "style", "restore", "interpolate", "vary"],
    "weights": ["list", "pull", "path"],
}
COMMANDS = ["demo", "fit", "degrade", "score", "inspect", "report", "make-pairs", "sr-train"]
COMMANDS += ["restore", "export", "import-weights"]
COMMANDS += [f"{group} {command}" for group, commands in GROUPS.items() for command in commands]


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    "module", ["deflow_cli", "deflow_cli.cli.main", "deflow_cli.presets", "deflow_cli.__main__"]
)
def test_no_torch_before_a_command_runs(module):
    heavy = "{'torch', 'numpy', 'cv2', 'PIL', 'safetensors'}"
    assert _python(f"import sys, {module}; print({heavy} & set(sys.modules))").strip() == "set()"


def test_no_torch_for_help_or_a_refused_option(tmp_path):
    code = (
        "import sys; from typer.testing import CliRunner; from deflow_cli.cli.main import app\n"
        "for args in (['--help'], ['fit', '--help'], ['fit', 'nowhere', 'nowhere']):\n"
        "    CliRunner().invoke(app, args)\n"
        "print('torch' in sys.modules)"
    )
    assert _python(code).strip() == "False"


def test_public_names_are_visible_before_they_are_loaded():
    code = (
        "import sys, deflow_cli; print({'fit', 'load_model'} <= set(dir(deflow_cli)), 'torch' in sys.modules)"
    )
    assert _python(code).split() == ["True", "False"]


def test_module_runs_as_a_program():
    done = subprocess.run([sys.executable, "-m", "deflow_cli", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"deflow {__version__}\n")


def test_unknown_public_name_is_an_attribute_error():
    import deflow_cli

    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = deflow_cli.fitt  # type: ignore[attr-defined]


def test_help_lists_every_command(deflow):
    result = deflow("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command.split()[0] in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_reference_names_every_option(deflow, command):
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    section = re.split(r"\n##+ ", reference.split(f"# `deflow {command}`")[1])[0]
    options = set(re.findall(r"--[a-z][a-z-]+", deflow(*command.split(), "--help").stdout))
    assert options - {"--help"}, "no options were found in the help"
    missing = {option for option in options if option not in section}
    assert not missing, f"docs/cli.md lacks {missing}; write it anew (docs/contributing.md)"


def test_an_error_is_a_message_and_a_next_step(deflow, folders, fit_workflow):
    fit_workflow.error = DataError("a [b].png: broken", next_step="remove it")
    result = deflow("fit", *folders)
    assert result.exit_code == 1
    assert "error: a [b].png: broken" in result.stderr
    assert "next: remove it" in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output


def test_debug_lets_the_error_through_on_either_side(deflow, folders, fit_workflow):
    fit_workflow.error = CheckpointError("broken")
    assert isinstance(deflow("--debug", "fit", *folders).exception, CheckpointError)
    assert isinstance(deflow("fit", *folders, "--debug").exception, CheckpointError)
    assert isinstance(deflow("fit", *folders).exception, SystemExit)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("std::bad_alloc"), ImportError("failed to map segment")]
)
def test_memory_that_runs_out_is_an_error_and_no_traceback(deflow, folders, fit_workflow, error):
    fit_workflow.error = error
    result = deflow("fit", *folders)
    assert result.exit_code == 1
    assert "error: out of memory\n  next: close other programs" in result.stderr
    fit_workflow.error = RuntimeError("a bug")
    assert isinstance(deflow("fit", *folders).exception, RuntimeError)


def test_ctrl_c_is_130(deflow, folders, fit_workflow):
    fit_workflow.error = KeyboardInterrupt()
    assert deflow("fit", *folders).exit_code == 130


def test_unknown_option_is_2():
    assert CliRunner().invoke(app, ["fit", "--nonsense"]).exit_code == 2
