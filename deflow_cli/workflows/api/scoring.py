"""Scoring: how good images are, two versions side by side, and what is wrong with pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deflow_cli.runtime.progress import Reporter, Silent
from deflow_cli.workflows.api.arguments import path_or_none

if TYPE_CHECKING:
    from deflow_cli.workflows.check.run import CheckReport
    from deflow_cli.workflows.compare import CompareRecord
    from deflow_cli.workflows.score.run import ScoreReport
    from deflow_cli.workflows.space.run import SpaceReport


def score(
    outputs: str | Path | Sequence[str | Path],
    reference: str | Path | None = None,
    *,
    metrics: Sequence[str] = (),
    protocol: str = "rwsr",
    crop_border: int | None = None,
    luma: bool = False,
    brisque_model: str | Path | None = None,
    niqe_model: str | Path | None = None,
    lpips_net: str = "alex",
    lpips_weights: str | Path | None = None,
    pairing: str = "name",
    device: str = "auto",
    seed: int = 0,
    reporter: Reporter | None = None,
) -> ScoreReport:
    """Score images, one method or several, as ``deflow score`` does.

    outputs: a folder or an image for each method. reference: the clean images; None: metrics that need none.
    metrics: names; none: all that apply. crop_border: None: the protocol's. seed: of the bootstrap. Raises
    DeflowError for images without partners and for options that do not fit.

    >>> from deflow_cli import score
    >>> report = score("clean", "clean", metrics=["psnr", "ssim"], device="cpu")
    >>> [(summary.metric, summary.summary.mean) for summary in report.summaries]
    [('psnr', inf), ('ssim', 1.0)]
    """
    from deflow_cli.metrics.options import ScorerOptions
    from deflow_cli.workflows.score import run as workflow

    methods = [outputs] if isinstance(outputs, str | Path) else outputs
    request = workflow.ScoreRequest(
        outputs=tuple(Path(method) for method in methods),
        reference=path_or_none(reference),
        metrics=tuple(metrics),
        options=ScorerOptions(
            protocol=protocol,
            crop_border=crop_border,
            luma=luma,
            brisque_model=path_or_none(brisque_model),
            niqe_model=path_or_none(niqe_model),
            lpips_net=lpips_net,
            lpips_weights=path_or_none(lpips_weights),
        ),
        pairing=pairing,
        device=device,
        seed=seed,
    )
    return workflow.score(request, reporter or Silent())


def score_space(
    samples: str | Path | Mapping[float, str | Path],
    reference: str | Path,
    *,
    low: str | Path | None = None,
    scale: int | None = None,
    lpips_weights: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    reporter: Reporter | None = None,
) -> SpaceReport:
    """Score many super-resolutions of each image, as ``deflow score --space`` does.

    samples: a folder, or one for each temperature. low: the inputs; scale: theirs, where they are not given;
    without either LR-PSNR is left out. lpips_weights: AlexNet's; None: those on this machine, and without any
    the squared error alone is reported. seed: of the bootstrap. Raises DeflowError for names that fit no
    layout and for missing samples.

    >>> from deflow_cli import degrade, score_space
    >>> report = degrade("clean", "space", model="runs/camera", samples=2, device="cpu")
    >>> report = score_space("space", "clean", device="cpu")
    >>> means = {row.measure: row.summary.mean for row in report.summaries}
    >>> 0 < means["diversity-error"] < 100, means["pixel-std"] > 0
    (True, True)
    """
    from deflow_cli.data.samples.matching import SampleSource
    from deflow_cli.workflows.space import run as workflow

    if isinstance(samples, str | Path):
        sources = [SampleSource(Path(samples))]
    else:
        sources = [SampleSource(Path(folder), float(temperature)) for temperature, folder in samples.items()]
    request = workflow.SpaceRequest(
        tuple(sources), Path(reference), path_or_none(low), scale, path_or_none(lpips_weights), device, seed
    )
    return workflow.score_space(request, reporter or Silent())


def compare_images(
    first: str | Path,
    second: str | Path,
    out: str | Path = "compare.html",
    *,
    labels: tuple[str, str] | None = None,
    link: bool = False,
    reporter: Reporter | None = None,
) -> CompareRecord:
    """Write a page with a slider between two versions of images, as ``deflow compare`` does.

    first, second: images, or folders of equal names. labels: of the two; None: their names. link: the page
    names the files instead of holding pictures. Raises DeflowError for missing partners, and for sizes that
    are no multiples of each other.

    >>> from deflow_cli import compare_images, degrade
    >>> report = degrade("clean", "degraded", model="runs/camera", device="cpu")
    >>> made = compare_images("clean", "degraded", "compare.html", labels=("before", "after"))
    >>> made.images, made.page.name, made.linked
    (6, 'compare.html', False)
    """
    from deflow_cli.workflows import compare as workflow

    request = workflow.CompareRequest(Path(first), Path(second), Path(out), labels, link)
    return workflow.compare_images(request, reporter or Silent())


def check_pairs(
    pairs: str | Path,
    *,
    val: str | Path | None = None,
    scale: int | None = None,
    gt_size: int = 0,
    sample: int = 200,
    reporter: Reporter | None = None,
) -> CheckReport:
    """Find what would spoil a training on pairs, as ``deflow check`` does; nothing is changed.

    val: pairs for validation, which are checked too, and for leaks. scale: expected; None: that of most
    pairs. gt_size: the training's crop; 0: none. sample: pairs whose alignment is measured; 0: all. The
    report ``spoils`` where a finding does. Raises DataError where there is no data set at all.

    >>> from deflow_cli import DegraderChoice, check_pairs, make_pairs
    >>> report = make_pairs("clean", "checked", degrader=DegraderChoice("white-noise", sigma=8.0), scale=2)
    >>> report = check_pairs("checked", gt_size=128)
    >>> report.pairs, report.scale, report.spoils
    (6, 2, True)
    >>> [(finding.kind, len(finding.keys)) for finding in report.findings if finding.spoils]
    [('size', 6)]
    """
    from deflow_cli.workflows.check import run as workflow

    request = workflow.CheckRequest(Path(pairs), path_or_none(val), scale, gt_size, sample)
    return workflow.check_pairs(request, reporter or Silent())
