"""`deflow score --space`: how varied and how good many samples of each image are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from deflow_cli.cli.console import ConsoleReporter, print_json, show_path
from deflow_cli.cli.guard import tell_error
from deflow_cli.cli.options import check_folder
from deflow_cli.cli.scoring.result_files import results_first
from deflow_cli.cli.scoring.score_options import check_exists
from deflow_cli.cli.streams import visible
from deflow_cli.errors import ConfigError, DeflowError

if TYPE_CHECKING:
    from deflow_cli.data.samples.matching import SampleSource
    from deflow_cli.workflows.space.run import SpaceReport, SpaceRequest

_WITH_TEMPERATURE = re.compile(r"(\d+(?:\.\d+)?)=(.+)")


@dataclass(frozen=True)
class SpaceOutputs:
    """What is written beside the table. maps: a folder. as_json: the document instead of the table."""

    csv: Path | None = None
    html: Path | None = None
    maps: Path | None = None
    as_json: bool = False


def space_request(
    space: Sequence[str],
    reference: Path | None,
    low: Path | None,
    scale: int | None,
    lpips_weights: Path | None,
    device: str,
    seed: int,
) -> SpaceRequest:
    """The request, after checks that need no torch: there are references, and every path given exists."""
    if reference is None:
        raise ConfigError("--space needs the true images", next_step="add --ref GT")
    for path in (reference, *((low,) if low is not None else ())):
        check_exists(path)

    from deflow_cli.workflows.space.run import SpaceRequest

    return SpaceRequest(sample_sources(space), reference, low, scale, lpips_weights, device, seed)


def sample_sources(given: Sequence[str]) -> tuple[SampleSource, ...]:
    """The folders of ``--space``, each with its temperature where one was given (``0.8=DIR``).

    Raises DataError where there is no such folder.
    """
    from deflow_cli.data.samples.matching import SampleSource

    sources = []
    for text in given:
        found = _WITH_TEMPERATURE.fullmatch(text)
        if found is None or Path(text).exists():
            sources.append(SampleSource(check_folder(Path(text), "--space", "samples")))
        else:
            sources.append(SampleSource(check_folder(Path(found[2]), "--space", "samples"), float(found[1])))
    return tuple(sources)


def check_maps(maps: Path | None, request: SpaceRequest) -> Path | None:
    """The folder of ``--maps``, as given. Raises ConfigError for a file, or a place among the inputs."""
    if maps is None:
        return None
    if maps.exists() and not maps.is_dir():
        raise ConfigError(f"--maps {maps}: is a file", next_step="pass the name of a folder")
    inputs = [*(source.folder for source in request.sources), request.reference, request.low]
    for folder in inputs:
        if folder is not None and folder.is_dir() and maps.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                f"--maps {maps}: lies in {folder}, whose images are scored", next_step="choose another folder"
            )
    return maps


def score_samples(request: SpaceRequest, outputs: SpaceOutputs) -> None:
    """Score, print and write; exit code 1 where an image could not be read or weights given did not load."""
    from deflow_cli.workflows.space import run as workflow
    from deflow_cli.workflows.space.document import space_csv, space_document

    with ConsoleReporter() as reporter:
        report = workflow.score_space(request, reporter)

    def page() -> str:
        from deflow_cli.workflows.space.pictures import space_html

        reporter.note("making the page")
        return space_html(report)

    document = space_document(report)
    with results_first() as files:
        files.write(outputs.csv, lambda: space_csv(report))
        files.write(outputs.html, page)
        if outputs.maps is not None:
            folder = outputs.maps
            files.attempt(folder, lambda: _write_maps(report, folder))
        if outputs.as_json:
            print_json(document)
        else:
            from deflow_cli.cli.scoring.space_table import print_space

            print_space(document)
    _tell_missing_parts(report)


def _write_maps(report: SpaceReport, folder: Path) -> None:
    from deflow_cli.checkpoints.format import write_atomically

    for one in report.maps:
        write_atomically(folder / f"{one.image}_best_temperature.png", one.png)
    if report.maps:
        typer.echo(f"written: {len(report.maps)} maps in {show_path(folder)}", err=True)
    else:
        typer.echo("no maps written: they need samples of several temperatures", err=True)


def _tell_missing_parts(report: SpaceReport) -> None:
    for reason in report.unreadable:
        typer.echo(visible(f"failed: {reason}"), err=True)
    missing = report.missing
    if missing is not None and missing.asked:
        tell_error(DeflowError(f"lpips: {missing.message}", next_step=missing.next_step))
    elif missing is not None:
        typer.echo(f"left out: lpips: {missing.message}\n  next: {missing.next_step}", err=True)
    if report.unreadable or (missing is not None and missing.asked):
        raise typer.Exit(1)
