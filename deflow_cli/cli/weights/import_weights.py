"""`deflow import-weights`: turn a published state dict into a model file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deflow_cli.cli.console import print_json, print_tables, show_path
from deflow_cli.cli.options import AsJson, Debug, model_file
from deflow_cli.errors import ConfigError


def import_weights(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Published weights: .pth or .safetensors.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors file to write.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read weights in the published layout, derive the model's sizes from them, and save it as ours."""
    model_file(source)
    if target.suffix != ".safetensors":
        raise ConfigError(
            f"{target}: models are .safetensors files", next_step="name OUT something.safetensors"
        )

    from deflow_cli.workflows.import_weights import import_weights as workflow

    report = workflow(source, target)
    if as_json:
        print_json(report)
        return
    print_tables(asdict(report), show_path(source))
    typer.echo(f"model: {show_path(target)}")
