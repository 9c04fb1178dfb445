"""`deflow reproduce`: one command for each table of the DeFlow paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deflow_cli.cli.console import ConsoleReporter, format_seconds, print_json, show_path
from deflow_cli.cli.guard import tell_error
from deflow_cli.cli.options import AsJson, Debug, Device, check_device, check_folder
from deflow_cli.cli.restoration.make_pairs import show_bytes
from deflow_cli.cli.streams import visible
from deflow_cli.errors import ConfigError, DeflowError
from deflow_cli.presets.durations import parse_duration

if TYPE_CHECKING:
    from deflow_cli.workflows.reproduce.run import ReproduceReport

EXPERIMENT_NAMES = ("aim", "ntire", "dped", "ablations")
STAGE_NAMES = ("prepare", "degraders", "pairs", "restorers", "score", "table")


def reproduce(
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="|".join(EXPERIMENT_NAMES),
            help="Table 1 (AIM-RWSR), 2 (NTIRE-RWSR), 3 (DPED-RWSR) or 4, ablations on aim's data.",
        ),
    ],
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder with the challenge's archives, unpacked.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where everything is written (default: runs/reproduce-NAME)."),
    ] = None,
    stage: Annotated[
        str, typer.Option(metavar="|".join(STAGE_NAMES), help="Stop after this stage (default: table).")
    ] = "table",
    only: Annotated[
        list[str] | None, typer.Option(metavar="METHOD", help="Only this method. Repeatable.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Train for this long in all, such as 8h, shared evenly by all trainings."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Repeat everything random so often.")] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a setting of the flows' fits (flow, encoder, fit), of the restorers (restorer, "
            "loss, psnr, gan, sr) or of another method: fit.iterations=50000, dsgan.fit.iterations=9000. "
            "Repeatable.",
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The ESRGAN that all restorers start from, a file or hf://USER/REPO; the paper's is "
            "RRDB_PSNR_x4.pth (default: one is trained by L1 first).",
        ),
    ] = None,
    kernels: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Of dped: blur kernels for the clean side, .mat or .npy."),
    ] = None,
    scale_down: Annotated[
        bool,
        typer.Option("--scale-down", help="Small networks and a thousandth of the steps: minutes on a CPU."),
    ] = False,
    miniature: Annotated[
        bool,
        typer.Option(
            "--miniature",
            help="Make DATA first, a miniature of the challenge of packaged photographs; with --scale-down.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do nothing; name every step, its inputs, time and disk.")
    ] = False,
    device: Device = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Reproduce a table of the DeFlow paper, published and measured; run again, it goes on where it stopped.

    Prepares the data, fits every method's degradation, makes its pairs, trains the same ESRGAN on them,
    scores it, and writes table.md, table.json and table.html. A step is done again only where its settings,
    its data or the steps before it changed.
    """
    check_device(device)
    if experiment not in EXPERIMENT_NAMES:
        raise ConfigError(
            f"{experiment!r} is no experiment", next_step=f"use one of {', '.join(EXPERIMENT_NAMES)}"
        )
    if stage not in STAGE_NAMES:
        raise ConfigError(f"--stage is {stage!r}", next_step=f"use one of {', '.join(STAGE_NAMES)}")
    if not miniature:
        check_folder(data, "DATA", of="the challenge's archives")
    seconds = parse_duration(budget) if budget is not None else 0.0

    from deflow_cli.paths import RUNS_FOLDER
    from deflow_cli.workflows.reproduce import run as workflow

    request = workflow.ReproduceRequest(
        experiment=experiment,
        data=data,
        out=out or Path(RUNS_FOLDER) / f"reproduce-{experiment}",
        stage=workflow.stage_named(stage),
        only=tuple(only or ()),
        budget=seconds,
        seeds=seeds,
        settings=tuple(overrides or ()),
        init=init,
        kernels=kernels,
        scale_down=scale_down,
        miniature=miniature,
        device=device,
        dry_run=dry_run,
    )
    with ConsoleReporter() as reporter:
        report = workflow.reproduce(request, reporter)
    if as_json:
        print_json(report)
    elif dry_run:
        for line in describe_plan(report):
            typer.echo(visible(line))
    else:
        typer.echo(visible(workflow.report_text(report)))
        for path in report.files:
            typer.echo(f"written: {show_path(path)}", err=True)
    for failed in report.failed:
        tell_error(DeflowError(f"{failed.name}: {failed.reason}", next_step=failed.next_step))
    if report.failed or (dry_run and report.missing_data):
        raise typer.Exit(1)


def describe_plan(report: ReproduceReport) -> list[str]:
    """What would be done: the data, each step with its inputs and cost, and how that is estimated."""
    lines = [f"{report.title}, to {show_path(report.out)}", *(f"found: {line}" for line in report.data)]
    lines += [f"missing: {line}" for line in (*report.missing_data, *report.missing_weights)]
    for number, step in enumerate(report.steps, start=1):
        how = {"done": "done", "changed": f"again: {step.why}", "interrupted": "goes on"}
        cost = f"about {format_seconds(max(1.0, step.cost.seconds))}, {show_bytes(int(step.cost.bytes))}"
        lines.append(f"{number}. {step.name}: {step.what} ({how.get(step.condition, cost)})")
        lines.append(f"   from {', '.join(step.inputs) or 'what is found'}")
    if report.steps:
        estimate = report.estimate
        lines.append(
            f"left to do: about {format_seconds(estimate.seconds)}, {show_bytes(int(estimate.bytes))}"
        )
        lines.append(report.how_estimated)
    return lines
