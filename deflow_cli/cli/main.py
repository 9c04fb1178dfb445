"""The `deflow` program: its commands and what they have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from deflow_cli import __version__
from deflow_cli.cli.degradation import degrade, demo, fit, inspect, kernels, report
from deflow_cli.cli.experiments import reproduce, study
from deflow_cli.cli.guard import guarded, set_debug
from deflow_cli.cli.restoration import edit, make_pairs, restore, sr_train
from deflow_cli.cli.scoring import check, compare, score
from deflow_cli.cli.weights import export, import_weights, push, weights

EXIT_CODES = (
    "Exit codes: 0, all that was asked for was done. 1, something asked for was not: a file is missing or "
    "broken, an image failed (the others were done), or a metric asked for by name or by its file lacks its "
    "weights. 2, an option or a setting is wrong, and nothing was done. 130, interrupted. What a default set "
    "leaves out is a note, and changes no code."
)

app = typer.Typer(
    name="deflow",
    help="Learn image degradations from unpaired photographs and apply them to clean images.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    # Our own errors are told by `guarded`; a traceback of anything else is a bug report and stays whole.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"deflow {__version__}")
        raise typer.Exit


@app.callback()
def deflow(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show the traceback of an error.", callback=set_debug, is_eager=True),
    ] = False,
) -> None:
    """Learn image degradations from unpaired photographs and apply them to clean images."""


app.command("demo")(guarded(demo.demo))
app.command("fit")(guarded(fit.fit, in_ranks=True))
app.command("degrade")(guarded(degrade.degrade))
app.command("kernels")(guarded(kernels.kernels))
app.command("make-pairs")(guarded(make_pairs.make_pairs_command()))
app.command("sr-train")(guarded(sr_train.sr_train_command(), in_ranks=True))
app.command("restore")(guarded(restore.restore))
app.add_typer(edit.app, name="edit")
app.command("export")(guarded(export.export))
app.command("push")(guarded(push.push))
app.command("score")(guarded(score.score))
app.command("check")(guarded(check.check_pairs))
app.command("compare")(guarded(compare.compare_images))
app.command("reproduce")(guarded(reproduce.reproduce))
app.add_typer(study.app, name="study")
app.command("inspect")(guarded(inspect.inspect))
app.command("report")(guarded(report.report))
app.command("import-weights")(guarded(import_weights.import_weights))
app.add_typer(weights.app, name="weights")
