"""`deflow export`: write a restorer or a degradation model as the file that other programs read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from deflow_cli.cli.console import ConsoleReporter, print_json, show_path
from deflow_cli.cli.options import AsJson, Debug
from deflow_cli.cli.weights import export_options as options
from deflow_cli.errors import ConfigError

if TYPE_CHECKING:
    from deflow_cli.workflows.export.onnx import OnnxNoise, OnnxRequest

ONNX, WTP = "onnx", "wtp"


def export(
    places: options.Places,
    model: options.ModelToExport = None,
    file_format: options.FileFormat = None,
    temperature: options.GraphTemperature = None,
    seed: options.GraphSeed = None,
    key: options.GraphKey = None,
    noise: options.GraphNoise = None,
    fixed: options.Fixed = False,
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
    """Write a restorer or a degradation model as the file that other programs read."""
    source, target, named = choose_places(places, model)
    chosen = (file_format or named or format_of_name(target)).lower()
    card = {"title": name, "author": author, "license": license_id, "description": description}
    if chosen == WTP:
        refuse_for_format(openmodeldb=openmodeldb, id=entry_id, tag=tag, url=url, **card)
        refuse_for_format(temperature=temperature, seed=seed, key=key, noise=noise, fixed=fixed)
        _export_wtp(target, source, as_json=as_json)
        return
    if chosen == ONNX:
        refuse_for_format(openmodeldb=openmodeldb, id=entry_id, tag=tag, url=url)
        source_of_noise = check_noise(noise)

        from deflow_cli.workflows.export.onnx import OnnxRequest

        request = OnnxRequest(target, source, card, temperature, seed, key, source_of_noise, fixed)
        _export_onnx(request, as_json=as_json)
        return
    refuse_for_format(temperature=temperature, seed=seed, key=key, noise=noise, fixed=fixed)
    if source is None:
        raise ConfigError("the model to export is missing", next_step="write deflow export MODEL OUT")

    from deflow_cli.workflows.export import run as workflow

    with ConsoleReporter() as reporter:
        report = workflow.export(
            workflow.ExportRequest(
                model=source,
                target=target,
                format=chosen,
                openmodeldb=openmodeldb,
                entry_id=entry_id,
                name=name,
                author=author,
                license=license_id,
                description=description,
                tags=tuple(tag or ()),
                urls=tuple(url or ()),
            ),
            reporter,
        )

    if as_json:
        print_json(report)
        return
    typer.echo(f"written: {show_path(report.path)} ({report.format}, x{report.scale})")
    if report.entry_path is not None:
        typer.echo(f"entry: {show_path(report.entry_path)} ({report.entry_id})")


def choose_places(places: Sequence[Path], model: Path | None) -> tuple[Path | None, Path, str | None]:
    """Model, target and format of ``MODEL OUT``, of ``OUT --model MODEL``, and of both after ``wtp``.

    Raises ConfigError for more places.
    """
    named = None
    if len(places) > 1 and str(places[0]) == WTP:
        named, places = WTP, places[1:]
    if len(places) > 2:
        raise ConfigError(f"{places[2]}: one place too many", next_step="write deflow export MODEL OUT")
    if len(places) == 1:
        return model, places[0], named
    if model is not None:
        raise ConfigError(
            f"{places[0]} and --model {model}: two models", next_step="write deflow export OUT --model MODEL"
        )
    return places[0], places[1], named


def format_of_name(target: Path) -> str:
    """The format that a file's name means."""
    return {".safetensors": "safetensors", ".onnx": ONNX}.get(target.suffix, "basicsr")


def check_noise(text: str | None) -> OnnxNoise | None:
    """The value of ``--noise``. Raises ConfigError for anything else than its three."""
    if text is None:
        return None
    if text == "graph":
        return "graph"
    if text == "input":
        return "input"
    if text == "runtime":
        return "runtime"
    raise ConfigError(f"--noise is {text!r}", next_step="use graph, input or runtime")


def refuse_for_format(**given: object) -> None:
    """Raise ConfigError for an option that was given and means nothing to the chosen format."""
    for name, value in given.items():
        if value:
            raise ConfigError(f"--{name} is nothing to this format", next_step=f"leave --{name} out")


def _export_onnx(request: OnnxRequest, *, as_json: bool) -> None:
    from deflow_cli.workflows.export import onnx as workflow

    with ConsoleReporter() as reporter:
        report = workflow.export_onnx(request, reporter)
    if as_json:
        print_json(report)
        return
    size = f"x1/{report.shrinks}" if report.shrinks > 1 else f"x{report.scale}"
    kind = f"{report.kind} by {report.method}" if report.method else report.kind
    facts = f"{kind}, {size}, opset {report.opset}, {report.bytes / 1e6:.1f} MB"
    typer.echo(f"written: {show_path(report.path)} ({facts})")


def _export_wtp(target: Path, source: Path | None, *, as_json: bool) -> None:
    from deflow_cli.workflows.export import wtp as workflow

    with ConsoleReporter() as reporter:
        report = workflow.export_wtp(target, source, reporter)
    if as_json:
        print_json(report)
        return
    typer.echo(f"written: {show_path(report.adapter)}, {show_path(report.weights)}")
    typer.echo(f'use it: degradation {{ type = "{report.type}" }}')
