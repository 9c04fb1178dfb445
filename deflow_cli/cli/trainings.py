"""Trainings: what the commands that train have in common: their folder, their settings, what they print."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import typer

from deflow_cli.cli.console import ConsoleReporter, format_seconds, print_json, show_path
from deflow_cli.cli.guard import INTERRUPTED, is_main_rank
from deflow_cli.errors import ConfigError
from deflow_cli.paths import CONFIG_FILE, RUNS_FOLDER
from deflow_cli.presets.reader import C, Presets


def choose_run_dir(out: Path | None, name: str, resume: bool) -> Path:
    """``out``; else ``runs/NAME``, or the first free ``runs/NAME-2``, ``-3``...; to resume, the last taken.

    Raises ConfigError where ``out`` holds a run that is not to be resumed.
    """
    if out is not None:
        if (out / CONFIG_FILE).exists() and not resume:
            raise ConfigError(
                f"{show_path(out)} holds a run already", next_step="pass --resume to go on, or another --out"
            )
        return out
    taken = Path(RUNS_FOLDER) / name
    free, count = taken, 1
    while free.exists():
        taken, count = free, count + 1
        free = Path(RUNS_FOLDER) / f"{name}-{count}"
    return taken if resume else free


def configuration_of_run(
    presets: Presets[C],
    run_dir: Path,
    preset: Callable[[], str],
    settings: Sequence[str],
    reporter: ConsoleReporter,
) -> C:
    """The preset with its overrides. A resumed run keeps its own settings, and reports what is not applied.

    preset: names the one to begin with.
    """
    recorded = run_dir / CONFIG_FILE
    if not recorded.exists():
        return presets.apply_overrides(presets.load(preset()), settings)
    config = presets.load(recorded)
    if (ignored := presets.ignored_overrides(config, settings)) and is_main_rank():
        reporter.warn(
            f"--resume keeps the run's own settings; not applied: {', '.join(ignored)}. "
            f"Edit {show_path(recorded)} to change them"
        )
    return config


class TrainingResult(Protocol):
    """What came of a training of any kind."""

    @property
    def step(self) -> int: ...

    @property
    def interrupted(self) -> bool: ...

    @property
    def seconds(self) -> float: ...


def print_training(result: TrainingResult, lines: Iterable[str], as_json: bool) -> None:
    """Print a result on stdout; an interrupted run ends the program with 130. lines: what its kind adds.

    Of several ranks the main one prints.
    """
    if not is_main_rank():
        raise typer.Exit(INTERRUPTED if result.interrupted else 0)
    if as_json:
        print_json(result)
    else:
        typer.echo(f"{'interrupted' if result.interrupted else 'done'} at step {result.step}")
        typer.echo(f"time: {format_seconds(result.seconds)}")
        for line in lines:
            typer.echo(line)
    if result.interrupted:
        typer.echo("go on with the same command and --resume", err=True)
        raise typer.Exit(INTERRUPTED)
