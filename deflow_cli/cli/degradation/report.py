"""`deflow report`: a page about a fitted model, to decide by whether to use it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deflow_cli.cli.console import ConsoleReporter, print_json, show_path
from deflow_cli.cli.options import AsJson, Debug, Device, check_device, check_folder, model_file

SIGNS = {"good": "+", "note": "·", "warn": "!", "bad": "!!"}


def report(
    model: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="A run folder or a model file.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page (default: RUN/report.html, MODEL.report.html)."),
    ] = None,
    clean: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Clean images (default: the training's, as the run recorded)."),
    ] = None,
    noisy: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Real noisy images (default: the training's)."),
    ] = None,
    images: Annotated[
        int, typer.Option(metavar="N", min=1, help="Images of each folder to look at, held-out ones first.")
    ] = 12,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samples.")] = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a page about a model: verdict, previews, realism, training curves, a flow's learnt shift."""
    check_device(device)
    model_file(model)
    if clean is not None:
        check_folder(clean, "--clean")
    if noisy is not None:
        check_folder(noisy, "--noisy")

    from deflow_cli.workflows.report.request import ReportRequest
    from deflow_cli.workflows.report.run import report as workflow

    request = ReportRequest(
        source=model, out=out, clean=clean, noisy=noisy, images=images, device=device, seed=seed
    )
    with ConsoleReporter() as reporter:
        result = workflow(request, reporter)
    if as_json:
        print_json(result)
        return
    for severity, sentence in result.verdict:
        typer.echo(f"{SIGNS[severity]:>2} {sentence}")
    typer.echo(f"report: {show_path(result.report_path)}")
