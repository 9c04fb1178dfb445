"""Guard: the one place where errors become a message, a next step and an exit code."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

import typer

from deflow_cli.cli.streams import visible
from deflow_cli.errors import DeflowError, DeviceError, ToldElsewhere, is_out_of_memory, memory_asked

FREE_MEMORY = "close other programs, or raise the limit on memory that this one has"
INTERRUPTED = 130  # the shell's code for Ctrl-C: 128 + SIGINT

_debug: ContextVar[bool] = ContextVar("deflow_debug", default=False)

P = ParamSpec("P")
R = TypeVar("R")


def set_debug(value: bool) -> bool:
    """Callback of the program's own ``--debug``: from here on, errors keep their tracebacks or lose them."""
    _debug.set(value)
    return value


def add_debug(value: bool) -> bool:
    """Callback of a command's ``--debug``, which adds to the program's own."""
    _debug.set(value or _debug.get())
    return value


def guarded(command: Callable[P, R], *, in_ranks: bool = False) -> Callable[P, R]:
    """Wrap a command: a DeflowError is told on stderr and ends with its exit code, Ctrl-C ends with 130.

    in_ranks: torchrun may start it as the ranks of one training. What these find before they join is told
    once on each machine, since they have the same command and the same files there; later each tells its own.

    Lack of memory that nobody gave advice for is told likewise; other exceptions are bugs, and stay whole.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except DeflowError as error:
            if _debug.get():
                raise
            alike = in_ranks and not error.of_rank and not _is_first_of_machine()
            if not alike and not isinstance(error, ToldElsewhere):
                tell_error(error)
            if is_one_of_ranks():
                _leave_at_once(error.exit_code)
            raise typer.Exit(error.exit_code) from error
        except (MemoryError, RuntimeError, ImportError, OSError) as error:
            if _debug.get() or not is_out_of_memory(error):
                raise
            tell_error(DeviceError(f"out of memory{memory_asked(error)}", next_step=FREE_MEMORY))
            raise typer.Exit(DeviceError.exit_code) from error
        except KeyboardInterrupt as error:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from error

    return run


def is_one_of_ranks() -> bool:
    """Whether torchrun started this process beside others."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ


def is_main_rank() -> bool:
    """Whether this process prints results: the first of those that torchrun started, or the only one."""
    return not is_one_of_ranks() or os.environ["RANK"] == "0"


def _is_first_of_machine() -> bool:
    """Whether this process is the only one, or the first that torchrun started on its machine."""
    return not is_one_of_ranks() or os.environ.get("LOCAL_RANK", "0") == "0"


def _leave_at_once(code: int) -> None:
    """End the process although a GPU may still wait for what another process was to send."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def tell_error(error: DeflowError) -> None:
    """Print an error's message, and below it what to do."""
    typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(visible(str(error)), err=True)
    if error.next_step:
        typer.echo(visible(f"  next: {error.next_step}"), err=True)
