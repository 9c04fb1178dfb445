"""`deflow push`: send a model to the Hugging Face Hub, with a card made of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deflow_cli.cli.console import ConsoleReporter, print_json, show_path
from deflow_cli.cli.options import AsJson, Debug
from deflow_cli.cli.weights import export_options as options


def push(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model of ours, or its run folder.")],
    repo: Annotated[str, typer.Argument(metavar="USER/REPO", help="The repository, made if there is none.")],
    license_id: options.LicenseId = "",
    name: options.Name = "",
    author: options.Author = "",
    description: options.Description = "",
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the folder that would be sent, and send nothing.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep what is sent there (with --dry-run default: hub/USER-REPO)."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="The branch to commit to (default: main).")
    ] = None,
    message: Annotated[str, typer.Option(metavar="TEXT", help="The commit's message.")] = "",
    realism: Annotated[
        bool, typer.Option(help="Measure how real the samples are, from the run's images.")
    ] = True,
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure in seconds, without the classifier.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Send a model to the Hugging Face Hub: its file, a card made of its run, and samples.

    Tokens, mirrors and the offline mode are those of the Hub's own client (hf auth login, HF_TOKEN,
    HF_ENDPOINT). Nothing that is sent names a file of this machine or shows one of your images.
    """
    from deflow_cli.workflows.push import run as workflow

    kept = folder or (Path("hub") / repo.replace("/", "-") if dry_run else None)
    with ConsoleReporter() as reporter:
        request = workflow.PushRequest(
            model=model,
            repo=repo,
            title=name,
            author=author,
            license=license_id,
            description=description,
            private=private,
            dry_run=dry_run,
            folder=kept,
            revision=revision,
            message=message,
            realism=realism,
            quick=quick,
        )
        report = workflow.push(request, reporter)
    if as_json:
        print_json(report)
        return
    if report.folder is not None:
        typer.echo(f"written: {show_path(report.folder)} ({', '.join(report.files)})")
    if report.commit is None:
        typer.echo("nothing was sent")
    else:
        typer.echo(f"pushed: {report.repo}, commit {report.commit[:12]}")
    typer.echo(f"use it: --model {report.name}")
