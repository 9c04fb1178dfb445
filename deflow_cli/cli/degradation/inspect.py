"""`deflow inspect`: say what a model is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deflow_cli.cli.console import print_json, print_tables, show_path
from deflow_cli.cli.options import AsJson, Debug, model_file


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file or a run folder.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Print a model's sizes, data, training, likelihoods and the spectrum of its shift."""
    path = model_file(model)

    from deflow_cli.workflows.inspect import inspect_model

    report = inspect_model(path).as_dict()
    if as_json:
        print_json(report)
    else:
        print_tables(report, show_path(path))
