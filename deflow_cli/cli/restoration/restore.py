"""`deflow restore`: undo degradations by a restorer, ours, any ESRGAN, or samples of an SRFlow."""

from __future__ import annotations

import typer

from deflow_cli.cli import image_options as options
from deflow_cli.cli.console import ConsoleReporter, print_json, show_path, tell_failed
from deflow_cli.cli.degradation.degrade import parse_tile
from deflow_cli.cli.options import AsJson, Debug, Device, check_device, check_source
from deflow_cli.errors import ConfigError

MOST_STRAYED = 1e-3  # share of values beyond [0, 1] by more than 0.05 that goes without a word


def restore(
    source: options.Source,
    target: options.Target,
    model: options.RestoreModel = None,
    outscale: options.Outscale = None,
    tile: options.RestoreTile = "auto",
    tile_pad: options.TilePad = "auto",
    suffix: options.Suffix = "",
    ext: options.RestoreExt = "auto",
    skip_existing: options.SkipExisting = False,
    tta: options.Tta = False,
    temperature: options.SpaceTemperature = None,
    samples: options.SpaceSamples = 1,
    seed: options.SpaceSeed = 0,
    consistent: options.Consistent = False,
    sheet: options.Sheet = None,
    clip: options.RestoreClip = False,
    fp32: options.Fp32 = False,
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

    from deflow_cli.workflows import restore as workflow

    space = workflow.SpaceOptions(temperature, samples, seed, consistent, sheet, clip)
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
            space=space,
        )
        report = workflow.restore(request, reporter)

    if as_json:
        print_json(report)
    else:
        skipped = f", {len(report.skipped)} skipped" if report.skipped else ""
        typer.echo(f"{len(report.records)} written to {show_path(target)}{skipped}, x{report.outscale:g}")
        typer.echo(f"restorer: {show_path(report.model)} ({report.model_origin})")
        if report.lr_psnr is not None:
            typer.echo(f"made small again: {report.lr_psnr:.2f} dB from the inputs")
        if report.strayed > MOST_STRAYED:
            typer.echo(
                f"{100 * report.strayed:.2g} % of the values left the range of images: lower --temperature",
                err=True,
            )
    tell_failed(report.failed)


def parse_tile_pad(text: str) -> int | None:
    """Overlap of tiles; None: what leaves no seam. Raises ConfigError for anything but a whole number."""
    if text.lower() == "auto":
        return None
    if not text.isdecimal():
        raise ConfigError(f"--tile-pad is {text!r}", next_step="use auto, or a number of pixels")
    return int(text)
