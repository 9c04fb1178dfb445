"""Report realism: a model's samples held against its real noisy images, as a part of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deflow_cli.errors import DataError
from deflow_cli.metrics.noise.content import measure_content
from deflow_cli.metrics.noise.findings import judge, measure_floors
from deflow_cli.metrics.noise.high_pass import UnpairedStatistics, compare_unpaired
from deflow_cli.metrics.noise.independence import measure_independence
from deflow_cli.metrics.noise.repetition import measure_repetition
from deflow_cli.reports.pages.fit_page import RealismPart
from deflow_cli.reports.pages.realism_page import autocorrelation_maps, noise_figures
from deflow_cli.reports.pages.tables import Cell
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.realism.assess import Assessment, RealSide, assess, measure_real, residuals_of
from deflow_cli.workflows.realism.data import NoisyImage, NoisySet
from deflow_cli.workflows.realism.figures import figures
from deflow_cli.workflows.realism.view import COLUMNS, NOTES, noise_curves, table_rows
from deflow_cli.workflows.realism.wording import worded

FEWEST_IMAGES = 4  # clean images with samples, below which nothing is compared


def compare_with_real(
    fakes: Sequence[NoisyImage], real: NoisySet, seed: int, quick: bool, reporter: Reporter
) -> RealismPart:
    """Findings, figures and curves of samples with their clean images, against real images if there are any.

    quick: without the classifier and the kernel distance, which take seconds to minutes.
    """
    synthetic = NoisySet("model", tuple(fakes), len(fakes))
    if quick or not real.images:
        side, found = _statistics_only(real, synthetic)
    else:
        side = measure_real(real, seed, True, None, reporter)
        found = assess(side, synthetic, seed=seed, quick=True, inception=None, reporter=reporter)
    curves = noise_curves(side, [found])
    plots = [*noise_figures(curves), *autocorrelation_maps(curves)] if curves else []
    about = (
        f"Samples of {len(fakes)} clean crops against {len(real.images)} real noisy ones. The scenes differ, "
        "so noise is compared in flat patches, both sides high-passed alike. deflow score --realism compares "
        "whole folders."
        if real.images
        else f"Samples of {len(fakes)} clean crops. There are no real noisy images to hold them against, so "
        "only what the model does to a picture, and whether it does it at random, is judged."
    )
    notes = [
        *NOTES,
        *(f"Not measured: {reason}." for reason in found.left_out),
    ]
    return RealismPart(
        sentences=[(finding.severity, finding.sentence) for finding in found.findings],
        table=(COLUMNS, table_rows(figures(side, found))),
        about=about,
        figures=plots,
        notes=notes,
    )


def figures_of(realism: RealismPart | None) -> list[dict[str, Cell]]:
    """The figures of the table, by column."""
    if realism is None:
        return []
    columns, rows = realism.table
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _statistics_only(real: NoisySet, fake: NoisySet) -> tuple[RealSide, Assessment]:
    """The part of an assessment that trains nothing."""
    truth, statistics = _flat(real), _flat(fake)
    cleans = [image.clean for image in fake.with_clean if image.clean is not None]
    sampled = [image for image in fake.with_clean if len(image.samples) > 1]
    found = Assessment(
        fake.name,
        fake,
        content=measure_content(cleans, [image.samples[0] for image in fake.with_clean]),
        repetition=measure_repetition(residuals_of(fake.images), cleans),
        independence=measure_independence(
            [image.clean for image in sampled if image.clean is not None],
            [image.samples for image in sampled],
        ),
        unpaired_statistics=statistics,
    )
    floors = measure_floors(truth) if truth is not None else None
    side = RealSide(real, truth, {}, [], None, None, unpaired_floors=floors)
    if statistics is None:
        return side, replace(found, left_out=("the noise: no flat patches",))
    if truth is not None:
        found = replace(found, unpaired=compare_unpaired(truth, statistics))
    findings = judge(
        truth,
        statistics,
        content=found.content,
        independence=found.independence,
        repetition=found.repetition,
        floors=floors,
    )
    return side, replace(found, findings=worded(findings))


def _flat(images: NoisySet) -> UnpairedStatistics | None:
    """Statistics of flat patches; None where there are too few."""
    try:
        return UnpairedStatistics.of(images.pictures) if images.images else None
    except DataError:
        return None
