"""`deflow demo`: fit a tiny model on packaged photographs, degrade with it, and show what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deflow_cli.cli.console import ConsoleReporter, show_path
from deflow_cli.cli.options import Debug, Device, check_device
from deflow_cli.presets.durations import parse_duration


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the demo writes.")] = Path("deflow-demo"),
    time_budget: Annotated[str, typer.Option(metavar="TIME", help="Time to train: 90s, 10m.")] = "2m",
    data_only: Annotated[
        bool,
        typer.Option("--data-only", help="Only write photographs to try the commands on: no training."),
    ] = False,
    device: Device = "auto",
    debug: Debug = False,
) -> None:
    """Fit, degrade and compare in a few minutes, on photographs that come with the package."""
    check_device(device)
    seconds = parse_duration(time_budget)

    if data_only:
        from deflow_cli.workflows.demo import write_demo_data

        data = write_demo_data(out)
        typer.echo(f"clean: {show_path(data.clean)}")
        typer.echo(f"noisy, of other scenes: {show_path(data.noisy)}")
        typer.echo(f"pairs to score on, of scenes that are in neither: {show_path(data.gt.parent)}")
        return

    from deflow_cli.workflows.demo import demo as workflow

    with ConsoleReporter() as reporter:
        report = workflow(out, seconds, device, reporter)
    typer.echo(report.text)
    typer.echo(f"contact sheet: {show_path(report.contact_sheet)}")
    typer.echo(f"model: {show_path(report.model_path)}")
    if report.report_path is not None:
        typer.echo(f"report: {show_path(report.report_path)} (open it in a browser)")
