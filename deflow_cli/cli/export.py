"""`deflow export`: write a restorer as the file that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import ConsoleReporter, print_json, show_path
from .options import AsJson, Debug


def export(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A restorer, or a folder with a restorer.safetensors.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write: .pth or .safetensors.")],
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="basicsr (BasicSR, Real-ESRGAN, chaiNNer), realsr (RealSR, BSRGAN, DeFlow), esrgan (the "
            "first ESRGAN's programs), safetensors (ours, chaiNNer). Default: basicsr, or as OUT is named.",
        ),
    ] = None,
    openmodeldb: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Write the entry for OpenModelDB too; a folder: by its id."),
    ] = None,
    entry_id: Annotated[
        str, typer.Option("--id", metavar="ID", help="The entry's id (default: 4x-NAME).")
    ] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="The model's name (default: its own).")] = "",
    author: Annotated[str, typer.Option(metavar="NAME", help="Who made the model.")] = "",
    license_id: Annotated[
        str, typer.Option("--license", metavar="SPDX", help="Its licence: Apache-2.0, CC-BY-4.0 ...")
    ] = "",
    description: Annotated[str, typer.Option(metavar="TEXT", help="What the model is for.")] = "",
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="A tag of the entry. Repeatable.")
    ] = None,
    url: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Where OUT can be downloaded. Repeatable.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a restorer as the file that other programs read, in their names for its tensors."""
    chosen = file_format or ("safetensors" if target.suffix == ".safetensors" else "basicsr")

    from ..workflows import export as workflow

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
