"""`deflow restore`: undo degradations by a restorer, ours or any ESRGAN."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from .console import ConsoleReporter, print_json, show_path
from .degrade import parse_tile
from .options import AsJson, Debug, Device, check_device, check_source


def restore(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="An image, or a folder of images (recursive).")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="An image, or a folder to write to.")],
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A restorer.safetensors or its folder, or an ESRGAN of others, .pth or .safetensors "
            "(default: the newest runs/*/restorer.safetensors here).",
        ),
    ] = None,
    outscale: Annotated[
        float | None,
        typer.Option(
            "--outscale",
            "-s",
            metavar="S",
            help="Size of the outputs over that of the inputs, 2.5 for instance: the restored image is "
            "resized by MATLAB's antialiased bicubic (default: the restorer's scale).",
        ),
    ] = None,
    tile: Annotated[
        str,
        typer.Option(
            metavar="auto|N", help="Side of a tile in input pixels; 0: none; auto: none where memory lasts."
        ),
    ] = "auto",
    tile_pad: Annotated[
        str,
        typer.Option(
            metavar="auto|N", help="Input pixels that a tile sees around it; auto: enough for no seam."
        ),
    ] = "auto",
    suffix: Annotated[
        str, typer.Option(metavar="TEXT", help="Added to the names: a.png becomes a_TEXT.png.")
    ] = "",
    ext: Annotated[
        str,
        typer.Option(
            metavar="auto|png|jpg|...",
            help="Format of the outputs; PNG wherever it could not hold an image's transparency.",
        ),
    ] = "auto",
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave images alone whose outputs exist.")
    ] = False,
    tta: Annotated[
        bool,
        typer.Option("--tta", help="Mean over the eight turned and mirrored variants: eight times the work."),
    ] = False,
    fp32: Annotated[
        bool, typer.Option("--fp32", help="On CUDA compute in float32 rather than bfloat16.")
    ] = False,
    device: Device = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Restore degraded images; outputs are replaced, inputs never."""
    check_device(device)
    check_source(source)
    if outscale is not None and not 0 < outscale <= 64:
        raise ConfigError(f"--outscale is {outscale:g}", next_step="use a factor above 0, up to 64")
    if any(sign in suffix for sign in '/\\:*?"<>|\0'):
        raise ConfigError(f"--suffix is {suffix!r}", next_step="use letters and digits")
    tile_side, pad = parse_tile(tile), parse_tile_pad(tile_pad)

    from ..workflows import restore as workflow

    with ConsoleReporter() as reporter:
        request = workflow.RestoreRequest(
            source=source,
            target=target,
            model=model,
            outscale=outscale,
            tile=tile_side,
            tile_pad=pad,
            suffix=suffix,
            ext=ext.lower().lstrip("."),
            skip_existing=skip_existing,
            tta=tta,
            fp32=fp32,
            device=device,
        )
        report = workflow.restore(request, reporter)

    if as_json:
        print_json(report)
    else:
        skipped = f", {len(report.skipped)} skipped" if report.skipped else ""
        typer.echo(f"{len(report.records)} written to {show_path(target)}{skipped}, x{report.outscale:g}")
        typer.echo(f"restorer: {show_path(report.model)} ({report.model_origin})")
    for path, reason in report.failed:
        # A reason that names its file needs no second name.
        typer.echo(f"failed: {reason if str(path) in reason else f'{path}: {reason}'}", err=True)
    if report.failed:
        raise typer.Exit(1)


def parse_tile_pad(text: str) -> int | None:
    """Overlap of tiles; None: what leaves no seam. Raises ConfigError for anything but a whole number."""
    if text.lower() == "auto":
        return None
    if not text.isdecimal():
        raise ConfigError(f"--tile-pad is {text!r}", next_step="use auto, or a number of pixels")
    return int(text)
