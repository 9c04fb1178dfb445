"""`deflow weights`: bring the weights of others that the package does not carry, and tell where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deflow_cli.cli.console import ConsoleReporter, print_json, show_path
from deflow_cli.cli.guard import guarded
from deflow_cli.cli.options import AsJson, Debug
from deflow_cli.cli.tables import Column, TextTable, show_table

if TYPE_CHECKING:
    from deflow_cli.workflows.weights import WeightsState

app = typer.Typer(
    help="Bring the weights of others that some commands need, and tell where they lie.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A name of `deflow weights list`, or hf://OWNER/REPO/FILE[@REVISION]."
    ),
]


def list_weights(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the weights known by name: what for, size, licence, and whether they are on this machine."""
    from deflow_cli.workflows.weights import list_weights as workflow

    states = workflow()
    if as_json:
        print_json(states)
        return
    _print_states(states)


def pull_weights(
    name: Name,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="A copy brought by hand: verify it and keep it."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Download weights into the cache, verify their checksum, and print their path.

    The cache is the folder $DEFLOW_CACHE, or else ~/.cache/deflow. No other command downloads anything.
    """
    from deflow_cli.workflows.weights import pull_weights as workflow

    with ConsoleReporter() as reporter:
        pulled = workflow(name, file, reporter)
    typer.echo(pulled.path)


def path(name: Name, debug: Debug = False) -> None:
    """Print where weights lie on this machine; fail if they do not."""
    from deflow_cli.workflows.weights import weights_path

    typer.echo(weights_path(name))


def _print_states(states: Sequence[WeightsState]) -> None:
    from rich.console import Console

    headings = ("for", "size", "here", "licence")
    columns = [Column("name", style="cyan"), *(Column(heading, wraps=True) for heading in headings)]
    table = TextTable("Weights of others", columns)
    for state in states:
        where = show_path(state.path) if state.path is not None else "no"
        table.rows.append((state.name, state.purpose, _size(state.bytes), where, state.licence))
    show_table(Console(), table)


def _size(count: int) -> str:
    """``354 kB`` or ``244 MB``."""
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


app.command("list")(guarded(list_weights))
app.command("pull")(guarded(pull_weights))
app.command("path")(guarded(path))
