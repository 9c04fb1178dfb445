"""`deflow score`: how good images are, or how real a degradation is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from deflow_cli.cli.console import ConsoleReporter, print_json
from deflow_cli.cli.guard import tell_error
from deflow_cli.cli.options import AsJson, Debug, Device, check_device, check_folder
from deflow_cli.cli.scoring import score_options as options
from deflow_cli.cli.scoring import space_options
from deflow_cli.cli.scoring.result_files import results_first
from deflow_cli.cli.scoring.space import SpaceOutputs, check_maps, score_samples, space_request
from deflow_cli.cli.streams import visible
from deflow_cli.errors import ConfigError, DeflowError

if TYPE_CHECKING:
    from deflow_cli.workflows.realism.run import RealismRequest
    from deflow_cli.workflows.score.run import ScoreReport, ScoreRequest


def score(
    outputs: options.Outputs = None,
    ref: options.Reference = None,
    metrics: options.Metrics = None,
    protocol: options.Protocol = None,
    crop_border: options.CropBorder = None,
    y: options.Luma = False,
    pairing: options.Pairing = None,
    csv: options.Csv = None,
    brisque_model: options.BrisqueModel = None,
    niqe_model: options.NiqeModel = None,
    lpips_net: options.LpipsNet = None,
    lpips_weights: options.LpipsWeights = None,
    realism: options.Realism = None,
    clean: options.Clean = None,
    inception_weights: options.InceptionWeights = None,
    quick: options.Quick = False,
    space: space_options.Space = None,
    lq: space_options.LowResolution = None,
    scale: space_options.Scale = None,
    maps: space_options.Maps = None,
    html: options.Html = None,
    as_json: AsJson = False,
    device: Device = "auto",
    seed: options.Seed = 0,
    debug: Debug = False,
) -> None:
    """Score images (PSNR, SSIM, LPIPS, NIQE, BRISQUE, PIQE), how real a degradation is (--realism), or how
    varied and how good many samples of each image are (--space)."""
    check_device(device)
    options.check_target(csv, "--csv")
    options.check_target(html, "--html")
    of_quality: dict[str, object] = {
        "--metrics": metrics,
        "--protocol": protocol,
        "--crop-border": crop_border,
    }
    of_quality |= {"--y": y, "--pairing": pairing, "--brisque-model": brisque_model}
    of_quality |= {"--niqe-model": niqe_model, "--lpips-net": lpips_net}
    of_realism: dict[str, object] = {
        "--clean": clean,
        "--inception-weights": inception_weights,
        "--quick": quick,
    }
    of_space: dict[str, object] = {"--lq": lq, "--scale": scale, "--maps": maps}
    if space:
        others = {"--realism": realism, "OUT": outputs, **of_quality, **of_realism}
        options.refuse(others, "does not go with --space", "leave one of the two out")
        asked_space = space_request(space, ref, lq, scale, lpips_weights, device, seed)
        check_maps(maps, asked_space)
        score_samples(asked_space, SpaceOutputs(csv, html, maps, as_json))
        return
    options.refuse(of_space, "goes with --space only", "add --space SAMPLES, or leave it out")
    if not outputs:
        raise ConfigError("nothing to score", next_step="pass a folder of images as OUT, or --space SAMPLES")
    if realism is not None:
        of_quality |= {"--ref": ref, "--lpips-weights": lpips_weights}
        options.refuse(of_quality, "does not go with --realism", "leave one of the two out")
        for folder in (realism, *outputs, *(clean or ())):
            check_folder(folder, "REAL, OUT or --clean")

        from deflow_cli.workflows.realism.run import RealismRequest

        sources = realism, tuple(outputs), tuple(clean or ())
        asked = RealismRequest(*sources, seed, device, inception_weights, quick)
        _score_realism(asked, csv, html, as_json)
        return
    options.refuse(of_realism, "goes with --realism only", "add --realism REAL, or leave it out")
    names = options.metric_names(metrics)
    for path in (*outputs, *((ref,) if ref is not None else ())):
        options.check_exists(path)

    from deflow_cli.metrics.options import ScorerOptions
    from deflow_cli.workflows.score.run import ScoreRequest

    how = ScorerOptions(
        protocol or "rwsr", crop_border, y, brisque_model, niqe_model, lpips_net or "alex", lpips_weights
    )
    request = ScoreRequest(tuple(outputs), ref, names, how, pairing or "name", device, seed)
    _score_images(request, csv, html, as_json)


def _score_images(request: ScoreRequest, csv: Path | None, html: Path | None, as_json: bool) -> None:
    """Score, print and write; exit code 1 where an image or a metric asked for is missing."""
    from deflow_cli.workflows.score import run as workflow

    with ConsoleReporter() as reporter:
        report = workflow.score(request, reporter)

    def page() -> str:
        from deflow_cli.workflows.score.examples import html_text

        reporter.note("making the page")
        return html_text(report)

    document = report.as_dict()
    with results_first() as files:
        files.write(csv, lambda: workflow.csv_text(report))
        files.write(html, page)
        if as_json:
            print_json(document)
        else:
            from deflow_cli.cli.scoring.score_table import print_score

            print_score(document)
    _tell_missing(report)


def _tell_missing(report: ScoreReport) -> None:
    for path, reason in report.unreadable:
        typer.echo(visible(f"failed: {path}: {reason}"), err=True)
    for missing in report.unavailable:
        message = f"{missing.metric}: {missing.message.removeprefix(f'{missing.metric}: ')}"
        if missing.metric in report.asked_in_vain:
            tell_error(DeflowError(message, next_step=missing.next_step))
        else:
            typer.echo(f"left out: {message}\n  next: {missing.next_step}", err=True)
    if report.unreadable or report.asked_in_vain:
        raise typer.Exit(1)


def _score_realism(request: RealismRequest, csv: Path | None, html: Path | None, as_json: bool) -> None:
    from deflow_cli.workflows.realism import run as workflow

    with ConsoleReporter() as reporter:
        report = workflow.measure_realism(request, reporter)
    with results_first() as files:
        files.write(csv, lambda: workflow.per_image_csv(report))
        files.write(html, lambda: workflow.realism_html(report))
        if as_json:
            print_json(report.as_dict())
        else:
            from deflow_cli.cli.scoring.realism_table import print_realism

            print_realism(report.as_dict())
