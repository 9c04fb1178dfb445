"""`deflow inspect`: say what a model is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deflow_cli.cli.console import print_json, print_tables, show_path
from deflow_cli.cli.options import AsJson, Debug, model_file
from deflow_cli.paths import MODEL_FILE, RESTORER_FILE


def inspect(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model file or a run folder, of a fit or an SRFlow.")
    ],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Print a model's sizes, data, training, and of a fit the likelihoods and the spectrum of its shift."""
    trained = model / RESTORER_FILE
    path = trained if trained.is_file() and not (model / MODEL_FILE).exists() else model_file(model)

    from deflow_cli.workflows.inspect.run import inspect_model

    report = inspect_model(path).as_dict()
    if as_json:
        print_json(report)
    else:
        print_tables(report, show_path(path))
