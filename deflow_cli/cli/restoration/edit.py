"""`deflow edit`: images changed through the latents of an SRFlow, one command for each mode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from deflow_cli.cli.console import ConsoleReporter, print_json, show_path, tell_failed
from deflow_cli.cli.guard import guarded
from deflow_cli.cli.image_options import RestoreExt, Source, Target
from deflow_cli.cli.options import AsJson, Debug, Device, check_device, check_source
from deflow_cli.cli.restoration import edit_options as options
from deflow_cli.cli.restoration.restore import MOST_STRAYED
from deflow_cli.config.checks import in_words
from deflow_cli.config.editing import COLLECTIONS, Collection, Edit, EditMode
from deflow_cli.config.srflow import USUAL_TEMPERATURE
from deflow_cli.errors import ConfigError, DataError

if TYPE_CHECKING:
    from deflow_cli.workflows.edit import EditReport

app = typer.Typer(
    help="Edit images through the latents of an SRFlow: what an image has beyond its small version.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class _Files(NamedTuple):
    source: Path
    target: Path
    other: Path | None
    mask: Path | None
    model: Path | None
    sheet: Path | None
    ext: str


class _Numbers(NamedTuple):
    temperature: float | None
    normalise: str | None
    deterministic: bool
    samples: int
    seed: int
    consistent: bool
    strength: float = 0.3


def transfer(
    source: Source,
    target: Target,
    other: options.PastedImage,
    mask: options.PasteMask,
    model: options.EditModel = None,
    temperature: options.EditTemperature = None,
    normalise: options.Normalise = None,
    deterministic: options.Deterministic = False,
    samples: options.EditSamples = 1,
    seed: options.EditSeed = 0,
    consistent: options.EditConsistent = False,
    sheet: options.EditSheet = None,
    ext: RestoreExt = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Paste content of another image where a mask is white, in IN's colours, and keep the rest.

    The latents that the mask touches are normalised (default: --normalise local).
    """
    files = _Files(source, target, other, mask, model, sheet, ext)
    _edit(
        "transfer",
        files,
        _Numbers(temperature, normalise, deterministic, samples, seed, consistent),
        device,
        as_json,
    )


def style(
    source: Source,
    target: Target,
    other: options.DetailImage,
    mask: options.EditMask = None,
    model: options.EditModel = None,
    temperature: options.EditTemperature = None,
    normalise: options.Normalise = None,
    deterministic: options.Deterministic = False,
    samples: options.EditSamples = 1,
    seed: options.EditSeed = 0,
    consistent: options.EditConsistent = False,
    sheet: options.EditSheet = None,
    ext: RestoreExt = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Put the detail of another image on the low frequencies of IN (default: --normalise none)."""
    files = _Files(source, target, other, mask, model, sheet, ext)
    numbers = _Numbers(temperature, normalise, deterministic, samples, seed, consistent)
    _edit("style", files, numbers, device, as_json)


def restore_image(
    source: Source,
    target: Target,
    mask: options.EditMask = None,
    model: options.EditModel = None,
    temperature: options.EditTemperature = None,
    normalise: options.Normalise = None,
    deterministic: options.Deterministic = False,
    samples: options.EditSamples = 1,
    seed: options.EditSeed = 0,
    consistent: options.EditConsistent = False,
    sheet: options.EditSheet = None,
    ext: RestoreExt = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Clean a noisy or compressed image by a model trained on clean images, at its own size.

    Its latents are normalised to those of a clean image (default: --normalise spatial,local).
    """
    files = _Files(source, target, None, mask, model, sheet, ext)
    numbers = _Numbers(temperature, normalise, deterministic, samples, seed, consistent)
    _edit("restore", files, numbers, device, as_json)


def interpolate(
    source: Source,
    target: Target,
    other: options.OtherEnd = None,
    model: options.EditModel = None,
    temperature: options.EditTemperature = None,
    normalise: options.Normalise = None,
    deterministic: options.Deterministic = False,
    samples: options.StripLength = 5,
    seed: options.EditSeed = 0,
    consistent: options.EditConsistent = False,
    sheet: options.EditSheet = None,
    ext: RestoreExt = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a strip of images between IN and another, or between two samples of IN's small version.

    Latents are interpolated along the sphere, the small versions linearly.
    """
    files = _Files(source, target, other, None, model, sheet, ext)
    numbers = _Numbers(temperature, normalise, deterministic, samples, seed, consistent)
    _edit("interpolate", files, numbers, device, as_json)


def vary(
    source: Source,
    target: Target,
    mask: options.EditMask = None,
    model: options.EditModel = None,
    strength: options.Strength = 0.3,
    temperature: options.EditTemperature = None,
    normalise: options.Normalise = None,
    deterministic: options.Deterministic = False,
    samples: options.EditSamples = 1,
    seed: options.EditSeed = 0,
    consistent: options.EditConsistent = False,
    sheet: options.EditSheet = None,
    ext: RestoreExt = "auto",
    device: Device = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make variations of IN: its latents mixed with random ones."""
    files = _Files(source, target, None, mask, model, sheet, ext)
    numbers = _Numbers(temperature, normalise, deterministic, samples, seed, consistent, strength)
    _edit("vary", files, numbers, device, as_json)


def parse_normalise(text: str | None) -> tuple[Collection, ...] | None:
    """Collections in order; ``none`` is no collection. Raises ConfigError for other names."""
    if text is None:
        return None
    names = [name.strip().lower() for name in text.split(",")]
    known: dict[str, Collection] = {name: name for name in COLLECTIONS}
    unknown = [name for name in names if name not in known]
    if names == ["none"]:
        return ()
    if unknown:
        raise ConfigError(
            f"--normalise has {unknown[0]!r}", next_step=f"use {in_words(COLLECTIONS)}, or none alone"
        )
    return tuple(known[name] for name in names)


def _edit(mode: EditMode, files: _Files, numbers: _Numbers, device: str, as_json: bool) -> None:
    check_device(device)
    check_source(files.source)
    for path, name in ((files.other, "--with"), (files.mask, "--mask")):
        if path is not None and not path.is_file():
            raise DataError(f"{path}: no such file", next_step=f"pass an image as {name}")
    collections = parse_normalise(numbers.normalise)
    is_between_images = mode == "interpolate" and files.other is not None
    if numbers.temperature is not None and not collections and (mode == "style" or is_between_images):
        raise ConfigError("--temperature is nothing without --normalise", next_step="leave it out")

    edit = Edit(
        mode,
        temperature=USUAL_TEMPERATURE if numbers.temperature is None else numbers.temperature,
        normalise=collections,
        deterministic=numbers.deterministic,
        strength=numbers.strength,
        samples=numbers.samples,
        seed=numbers.seed,
        consistent=numbers.consistent,
    )

    from deflow_cli.workflows import edit as workflow

    with ConsoleReporter() as reporter:
        request = workflow.EditRequest(
            source=files.source,
            target=files.target,
            edit=edit,
            model=files.model,
            other=files.other,
            mask=files.mask,
            sheet=files.sheet,
            ext=files.ext.lower().lstrip("."),
            device=device,
        )
        report = workflow.edit(request, reporter)
    if as_json:
        print_json(report)
    else:
        _print(report, files.target)
    tell_failed(report.failed)


def _print(report: EditReport, target: Path) -> None:
    images = sum(len(record.targets) for record in report.records)
    typer.echo(f"{report.mode}: {images} written to {show_path(target)}")
    typer.echo(f"restorer: {show_path(report.model)} ({report.model_origin})")
    for record in report.records:
        psnr = sum(record.lr_psnr) / len(record.lr_psnr)
        line = f"{record.source.name}: latents of spread {record.spread_before:.2f} became "
        line += f"{record.spread_after:.2f}; made small again {psnr:.2f} dB from the small image"
        if record.outside_mean is not None:
            line += f"; outside the mask {record.outside_mean:.2f} grey levels of change, at most "
            line += f"{record.outside_most:.0f}"
        typer.echo(line)
        if record.strayed > MOST_STRAYED:
            typer.echo(
                f"{record.source.name}: {100 * record.strayed:.2g} % of the values left the range of images: "
                "lower --temperature",
                err=True,
            )
    if report.sheet is not None:
        typer.echo(f"sheet: {show_path(report.sheet)}")


app.command("transfer")(guarded(transfer))
app.command("style")(guarded(style))
app.command("restore")(guarded(restore_image))
app.command("interpolate")(guarded(interpolate))
app.command("vary")(guarded(vary))
