"""`deflow kernels`: estimate the blur kernels of photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deflow_cli.cli.console import ConsoleReporter, print_json, show_path
from deflow_cli.cli.options import AsJson, Debug, Device, check_device, check_folder
from deflow_cli.cli.streams import visible
from deflow_cli.cli.tables import Column, TextTable, results_console, show_table
from deflow_cli.config.checks import in_words
from deflow_cli.config.kernels import KERNEL_METHODS, PUBLISHED_ITERATIONS, KernelSettings
from deflow_cli.errors import ConfigError
from deflow_cli.paths import POOL_FILE

if TYPE_CHECKING:
    from deflow_cli.workflows.kernels.run import KernelsReport

_SHOWN = 20  # kernels in the table; all are in kernels.json


def kernels(
    source: Annotated[Path, typer.Argument(metavar="NOISY", help="Folder of photographs (recursive).")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write the kernels to.")],
    method: Annotated[
        str,
        typer.Option(
            metavar="spectrum|kernelgan",
            help="The power spectrum's Gaussian, within a second; or KernelGAN's training, of any shape.",
        ),
    ] = "spectrum",
    scale: Annotated[int, typer.Option(metavar="2|4", help="Of the down-sampling a kernel is for.")] = 2,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")] = None,
    iterations: Annotated[
        int | None,
        typer.Option(min=1, help=f"Of KernelGAN, for each picture (default: {PUBLISHED_ITERATIONS})."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of KernelGAN (default: 0).")] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures that KernelGAN trains at once (default: 16 on a GPU, else 1)."),
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Estimate the blur of each photograph; run again, it does those that are left.

    The kernels are for `make-pairs --kernels` and `fit --kernels`.
    """
    check_device(device)
    check_folder(source, "NOISY")
    settings = choose_settings(method, scale, iterations, seed, batch)

    from deflow_cli.workflows.kernels import run as workflow

    with ConsoleReporter() as reporter:
        request = workflow.KernelsRequest(source, target, settings, limit, batch, device)
        report = workflow.estimate_kernels(request, reporter)
    if as_json:
        print_json(report)
    else:
        tell_kernels(report)
    for path, reason in report.failed:
        typer.echo(visible(f"failed: {path}: {reason}"), err=True)
    if report.failed:
        raise typer.Exit(1)


def choose_settings(
    method: str, scale: int, iterations: int | None, seed: int | None, batch: int | None
) -> KernelSettings:
    """The settings of the options. Raises ConfigError for those that the method does not have."""
    if method not in KERNEL_METHODS:
        raise ConfigError(f"--method is {method!r}", next_step=f"use {in_words(KERNEL_METHODS)}")
    options = {"iterations": iterations, "seed": seed, "batch": batch}
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if given and method != "kernelgan":
        raise ConfigError(f"{given[0]} is KernelGAN's", next_step="add --method kernelgan, or leave it out")
    return KernelSettings(method, scale, iterations or PUBLISHED_ITERATIONS, seed or 0)


def tell_kernels(report: KernelsReport) -> None:
    """Print the kernels as a table, and where they are."""
    records = [*report.kept, *report.records]
    if records:
        columns = [Column("picture", wraps=True), Column("blur", wraps=True)]
        rows: list[Sequence[str]] = [(record.image, record.sharpness) for record in records[:_SHOWN]]
        show_table(results_console(), TextTable(f"kernels, {report.settings.text}", columns, rows))
        if len(records) > _SHOWN:
            typer.echo(f"and {len(records) - _SHOWN} more, in {POOL_FILE}")
    kept = f", {len(report.kept)} were there already" if report.kept else ""
    typer.echo(f"{len(report.records)} kernels written to {show_path(report.target)}{kept}")
