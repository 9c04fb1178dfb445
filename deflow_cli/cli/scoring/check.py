"""`deflow check`: what is wrong with pairs, before hours are spent on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deflow_cli.cli.console import ConsoleReporter, print_json
from deflow_cli.cli.options import AsJson, Debug, check_folder
from deflow_cli.cli.streams import visible
from deflow_cli.errors import ConfigError

if TYPE_CHECKING:
    from deflow_cli.workflows.check.run import CheckReport


def check_pairs(
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS", help="Pairs: gt/ and lq/, gt.lmdb and lq.lmdb, or webdataset shards."
        ),
    ],
    val: Annotated[
        Path | None,
        typer.Option("--val", metavar="PAIRS", help="Pairs for validation: checked too, and for leaks."),
    ] = None,
    scale: Annotated[
        int | None, typer.Option("--scale", help="Expected scale (default: that of most pairs).")
    ] = None,
    gt_size: Annotated[
        int, typer.Option("--gt-size", metavar="N", help="Crop of the training: name smaller pictures.")
    ] = 0,
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", help="Pairs whose alignment is measured; 0: all.")
    ] = 200,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check pairs before a training: names, damage, sizes, scale, alignment, content, copies, and leaks.

    Every picture is read once. Exit code 1 where something was found that would spoil a training.
    """
    for folder, name in ((pairs, "PAIRS"), (val, "--val")):
        if folder is not None:
            check_folder(folder, name, "pairs")
    for value, least, name in ((scale, 1, "--scale"), (gt_size, 0, "--gt-size"), (sample, 0, "--sample")):
        if value is not None and value < least:
            raise ConfigError(f"{name} is {value}", next_step=f"use {least} or more")

    from deflow_cli.workflows.check.run import CheckRequest
    from deflow_cli.workflows.check.run import check_pairs as workflow

    with ConsoleReporter() as reporter:
        report = workflow(CheckRequest(pairs, val, scale, gt_size, sample), reporter)
    if as_json:
        print_json(report.as_dict())
    else:
        for line in _lines(report):
            typer.echo(visible(line))
    if report.spoils:
        raise typer.Exit(1)


def _lines(report: CheckReport) -> list[str]:
    """What was looked at, what was found with its next step, and the verdict."""
    beside = "" if report.val_pairs is None else f", {report.val_pairs} for validation"
    lines = [f"{report.source}: {report.pairs} pairs{beside}"]
    if report.scale is not None:
        lines[0] += f", x{report.scale}"
    if report.sizes is not None:
        (width, height), (most_width, most_height) = report.sizes
        lines[0] += f", gt {width}x{height}"
        lines[0] += f" to {most_width}x{most_height}" if report.sizes[0] != report.sizes[1] else ""
    if (alignment := report.alignment) is not None:
        lines.append(
            f"alignment: {alignment.right:+.2f} px right, {alignment.down:+.2f} px down of lq, median of"
            f" {alignment.measured} pairs"
        )
    for finding in report.findings:
        lines += [
            f"{'problem' if finding.spoils else 'note'}: {finding.message}",
            f"  next: {finding.next_step}",
        ]
    count = sum(finding.spoils for finding in report.findings)
    if not count:
        return [*lines, "nothing was found that would spoil a training"]
    return [*lines, f"{count} problem{'s' if count > 1 else ''} that would spoil a training"]
