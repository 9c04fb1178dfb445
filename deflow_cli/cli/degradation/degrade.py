"""`deflow degrade`: give clean images the degradation that a model has learned."""

from __future__ import annotations

from typing import Literal

import typer

from deflow_cli.cli import image_options as options
from deflow_cli.cli.console import ConsoleReporter, print_json, show_path, tell_failed
from deflow_cli.cli.options import AsJson, Debug, Device, check_device, check_source, model_file
from deflow_cli.errors import ConfigError


def degrade(
    source: options.Source,
    target: options.Target,
    model: options.Model = None,
    temperature: options.Temperature = None,
    strength: options.Strength = None,
    samples: options.Samples = 1,
    seed: options.Seed = 0,
    reverse: options.Reverse = False,
    like: options.Like = None,
    compression: options.Compression = "auto",
    tile: options.Tile = "auto",
    ext: options.Ext = "auto",
    skip_existing: options.SkipExisting = False,
    clip: options.Clip = False,
    temporal: options.Temporal = None,
    sheet: options.StrengthSheet = None,
    device: Device = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Degrade clean images as a model has learned it; outputs are replaced, inputs never."""
    check_device(device)
    check_source(source)
    if like is not None:
        check_source(like)
    check_together(temperature, strength, reverse, clip, temporal, sheet is not None)
    temperatures, tile_side = choose_temperature(temperature or strength, reverse), parse_tile(tile)
    chosen_compression = check_compression(compression)
    model_path = model_file(model) if model is not None else None

    from deflow_cli.workflows import degrade as workflow

    with ConsoleReporter() as reporter:
        request = workflow.DegradeRequest(
            source=source,
            target=target,
            model=model_path,
            temperature=temperatures,
            samples=samples,
            seed=seed,
            reverse=reverse,
            like=like,
            compression=chosen_compression,
            tile=tile_side,
            ext=ext.lower().lstrip("."),
            skip_existing=skip_existing,
            device=device,
            clip=clip,
            temporal=temporal or 0.0,
            sheet=sheet,
        )
        report = workflow.degrade(request, reporter)

    if as_json:
        print_json(report)
    else:
        written = sum(len(record.targets) for record in report.records)
        skipped = f", {len(report.skipped)} skipped" if report.skipped else ""
        typer.echo(f"{written} written to {show_path(target)}{skipped}")
        typer.echo(f"model: {show_path(report.model)} ({report.model_origin})")
    tell_failed(report.failed)


def check_together(
    temperature: str | None,
    strength: str | None,
    reverse: bool,
    clip: bool,
    temporal: float | None,
    has_sheet: bool,
) -> None:
    """Raise ConfigError for options that exclude or need each other."""
    if temperature is not None and strength is not None:
        raise ConfigError("--temperature and --strength are one thing", next_step="leave one of them out")
    if temporal is not None and not clip:
        raise ConfigError("--temporal is about the frames of a clip", next_step="add --clip")
    if reverse and (clip or has_sheet):
        name = "--clip" if clip else "--sheet"
        raise ConfigError(
            f"{name} is about noise, which --reverse adds none of", next_step=f"leave {name} out"
        )


def check_compression(text: str) -> Literal["auto", "no"]:
    """The value of ``--compression``. Raises ConfigError for anything else than ``auto`` and ``no``."""
    if text == "auto":
        return "auto"
    if text == "no":
        return "no"
    raise ConfigError(f"--compression is {text!r}", next_step="use auto or no")


def choose_temperature(text: str | None, reverse: bool) -> tuple[float, float]:
    """The temperatures given; without any 1, which is the model itself, or 0, the mean of what was clean."""
    return parse_temperature(text if text is not None else "0" if reverse else "1")


def parse_temperature(text: str) -> tuple[float, float]:
    """Lowest and highest temperature of ``0.8`` or ``0.6:1.2``. Raises ConfigError for anything else."""
    low, colon, high = text.partition(":")
    try:
        pair = float(low), float(high if colon else low)
    except ValueError:
        pair = (-1.0, -1.0)
    if not 0 <= pair[0] <= pair[1] < float("inf"):
        raise ConfigError(
            f"--temperature is {text!r}", next_step="write 0.8, or a rising range such as 0.6:1.2"
        )
    return pair


def parse_tile(text: str) -> int | None:
    """Side of a tile; None: chosen for the user, 0: no tiles. Raises ConfigError for anything else."""
    if text.lower() == "auto":
        return None
    if not text.isdecimal():
        raise ConfigError(f"--tile is {text!r}", next_step="use auto, a side in pixels, or 0 for no tiles")
    return int(text)
