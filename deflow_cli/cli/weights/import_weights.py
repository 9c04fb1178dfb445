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
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Published weights, .pth or .safetensors: a file, or hf://USER/REPO/FILE[@REVISION].",
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors file to write.")],
    blocks: Annotated[
        str | None,
        typer.Option(
            metavar="I,J,...",
            help="SRFlow: the encoder's blocks, from 0, that the flow sees; its files do not tell. Default: "
            "as published, 1,8,15,22 of 23 at x4, 1,3,5,7 at x8.",
        ),
    ] = None,
    eps: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0.0,
            help="SRFlow: the least scale of its couplings; its files do not tell. Default: 1e-4.",
        ),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read published weights of DeFlow, SRFlow, FSSR or DASR, derive the sizes, and save them as ours."""
    model_file(source)
    if target.suffix != ".safetensors":
        raise ConfigError(
            f"{target}: models are .safetensors files", next_step="name OUT something.safetensors"
        )

    from deflow_cli.workflows.import_weights import import_weights as workflow

    report = workflow(source, target, stacked_blocks=_numbers(blocks), affine_eps=eps)
    if as_json:
        print_json(report)
        return
    print_tables(asdict(report), show_path(source))
    typer.echo(f"model: {show_path(target)}")


def _numbers(text: str | None) -> tuple[int, ...] | None:
    """Whole numbers between commas. Raises ConfigError for anything else."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--blocks {text}: not a list of numbers", next_step="write 1,8,15,22") from error
