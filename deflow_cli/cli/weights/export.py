"""`deflow export`: write a restorer as the file that other programs read."""

from __future__ import annotations

import typer

from deflow_cli.cli import image_options as options
from deflow_cli.cli.console import ConsoleReporter, print_json, show_path
from deflow_cli.cli.options import AsJson, Debug


def export(
    model: options.ExportModel,
    target: options.ExportTarget,
    file_format: options.FileFormat = None,
    openmodeldb: options.Openmodeldb = None,
    entry_id: options.EntryId = "",
    name: options.Name = "",
    author: options.Author = "",
    license_id: options.LicenseId = "",
    description: options.Description = "",
    tag: options.Tag = None,
    url: options.Url = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a restorer as the file that other programs read, in their names for its tensors."""
    chosen = file_format or ("safetensors" if target.suffix == ".safetensors" else "basicsr")

    from deflow_cli.workflows import export as workflow

    with ConsoleReporter() as reporter:
        request = workflow.ExportRequest(
            model=model,
            target=target,
            format=chosen.lower(),
            openmodeldb=openmodeldb,
            entry_id=entry_id,
            name=name,
            author=author,
            license=license_id,
            description=description,
            tags=tuple(tag or ()),
            urls=tuple(url or ()),
        )
        report = workflow.export(request, reporter)

    if as_json:
        print_json(report)
        return
    typer.echo(f"written: {show_path(report.path)} ({report.format}, x{report.scale})")
    if report.entry_path is not None:
        typer.echo(f"entry: {show_path(report.entry_path)} ({report.entry_id})")
