"""Realism view: an assessment as what a page shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deflow_cli.arrays import Pixels
from deflow_cli.metrics.filters import high_pass
from deflow_cli.metrics.mean_interval import mean_interval
from deflow_cli.metrics.noise.comparison import ResidualStatistics
from deflow_cli.metrics.noise.high_pass import UnpairedStatistics
from deflow_cli.reports.contact_sheet import residual_view
from deflow_cli.reports.pages.realism_page import CropRow, NoiseCurves, RealismPage, SyntheticPart
from deflow_cli.reports.pages.tables import Cell
from deflow_cli.workflows.realism.assess import Assessment, RealSide
from deflow_cli.workflows.realism.data import NoisyImage, NoisySet
from deflow_cli.workflows.realism.figures import Figure, figures

COLUMNS = ("figure", "synthetic", "95 % interval", "reference", "which is", "what it says")
NOTES = (
    "Images in [0, 1], outputs of 8 bits, residual r = noisy - clean. Real halves: what two halves of the "
    "real images score against each other, mean over eight splits; none of these distances is zero at "
    "perfection.",
)
SHOWN_CROP = 96
CROP_ROWS = 4


def realism_page(real: RealSide, found: Sequence[Assessment]) -> RealismPage:
    """The page of a comparison of synthetic sets with a real one."""
    paired = by_residuals(real, found)
    tables = [figures(real, one) for one in found]
    return RealismPage(
        title="How real is this degradation?",
        subtitle=f"{', '.join(one.name for one in found)} against {real.images.name}",
        facts={
            f"Real: {real.images.name}": describe_images(real.images),
            **{f"Synthetic: {one.name}": describe_images(one.images) for one in found},
        },
        kind="Measured on residuals, noisy minus clean."
        if paired
        else "Measured on high-passed flat patches, both sides alike, since clean partners are missing.",
        curves=noise_curves(real, found),
        parts=[
            SyntheticPart(
                name=one.name,
                sentences=[(finding.severity, finding.sentence) for finding in one.findings],
                left_out=one.left_out,
                rows=table_rows(rows),
                crops=crop_rows(real.images, one.images, paired),
            )
            for one, rows in zip(found, tables, strict=True)
        ],
        columns=COLUMNS,
        summary=folders_side_by_side(found, tables) if len(found) > 1 else None,
        notes=NOTES,
    )


def describe_images(images: NoisySet) -> str:
    """How many pictures, of how many, with how many samples and partners."""
    count = len(images.images)
    of = "" if count == images.total else f" of {images.total}"
    samples = max(len(image.samples) for image in images.images)
    drawn = f", {samples} samples of each" if samples > 1 else ""
    return f"{count}{of} images{drawn}, {len(images.with_clean)} with a clean partner"


def by_residuals(real: RealSide, found: Sequence[Assessment]) -> bool:
    """Whether both sides have residuals, so that curves are drawn of them."""
    return real.residuals is not None and all(one.residuals is not None for one in found)


def table_rows(rows: Sequence[Figure]) -> list[list[Cell]]:
    """A table's rows, as `COLUMNS` names them."""
    return [
        [
            f"{row.section}: {row.name}",
            shown(row.value, row.digits),
            f"{shown(row.low, row.digits)} to {shown(row.high, row.digits)}" if row.low == row.low else "",
            shown(row.reference, row.digits) if row.reference == row.reference else "",
            row.against,
            row.what,
        ]
        for row in rows
    ]


def shown(value: float, digits: int) -> str:
    """A number with its decimals; infinity and NaN by name."""
    if math.isnan(value):
        return "undefined"
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def folders_side_by_side(
    found: Sequence[Assessment], tables: Sequence[Sequence[Figure]]
) -> tuple[list[str], list[list[Cell]]]:
    """One row per figure, one column per set, and what to hold them against where that is the real side's."""
    rows: dict[tuple[str, str], dict[int, Figure]] = {}
    for index, table in enumerate(tables):
        for row in table:
            rows.setdefault((row.section, row.name), {})[index] = row
    lines: list[list[Cell]] = []
    for (section, name), columns in rows.items():
        one = next(iter(columns.values()))
        common = one.against in ("real", "real halves") and one.reference == one.reference
        values = [shown(columns[i].value, one.digits) if i in columns else "" for i in range(len(found))]
        reference = f"{shown(one.reference, one.digits)} ({one.against})" if common else ""
        lines.append([f"{section}: {name}", *values, reference])
    return ["figure", *(one.name for one in found), "real"], lines


def noise_curves(real: RealSide, found: Sequence[Assessment]) -> list[NoiseCurves]:
    """What is drawn: of residuals where both sides have them, else of flat patches; real first."""
    residuals = by_residuals(real, found)
    sides = [(f"real: {real.images.name}", real.residuals if residuals else real.unpaired)]
    sides += [(one.name, one.residuals if residuals else one.unpaired_statistics) for one in found]
    return [_curves(name, statistics) for name, statistics in sides if statistics is not None]


def _curves(name: str, statistics: ResidualStatistics | UnpairedStatistics) -> NoiseCurves:
    power = np.nanmean(10.0 ** (statistics.psd_db / 10.0), axis=0)
    rows = statistics.moments[statistics.moments[:, 0] > 0]
    stds = np.sqrt(rows[:, 2]) * 255.0
    return NoiseCurves(
        name=name,
        spectrum_db=10.0 * np.log10(power),
        histogram=statistics.histograms.sum(axis=0),
        level=statistics.noise_level * 255.0,
        autocorrelation=statistics.autocorrelation.mean(axis=0),
        stds=stds,
        std_interval=mean_interval(stds.tolist()),
    )


def crop_rows(real: NoisySet, fake: NoisySet, paired: bool) -> list[CropRow]:
    """Crops of the same scenes where both sides show them, else of each side's own; residuals amplified."""
    theirs = {image.name: image for image in real.images}
    shared = [image for image in fake.images if image.name in theirs and image.clean is not None]
    chosen = shared if paired and shared else list(fake.images)
    spread = np.unique(np.linspace(0, len(chosen) - 1, CROP_ROWS).round().astype(int))
    rows = []
    for number, index in enumerate(spread):
        image = chosen[index]
        other = theirs.get(image.name) if paired and shared else None
        if other is None:
            other = real.images[(number * len(real.images)) // len(spread)]
        rows.append(_row(image, other, paired and bool(shared)))
    return rows


def _row(fake: NoisyImage, real: NoisyImage, same: bool) -> CropRow:
    window, others = _window(fake.samples[0]), _window(real.samples[0])
    pictures = [] if fake.clean is None else [("clean", fake.clean[window])]
    pictures += [("real", real.samples[0][others])]
    pictures += [
        (f"synthetic {n}" if len(fake.samples) > 1 else "synthetic", sample[window])
        for n, sample in enumerate(fake.samples[:2], start=1)
    ]
    if same:
        assert fake.clean is not None
        noises = [("real noise", real.samples[0][others] / 255.0 - fake.clean[window] / 255.0)]
        noises += [("synthetic noise", fake.samples[0][window] / 255.0 - fake.clean[window] / 255.0)]
    else:
        noises = [("real, high-passed", high_pass(real.samples[0])[others])]
        noises += [("synthetic, high-passed", high_pass(fake.samples[0])[window])]
    gain = float(np.clip(np.round(28.0 / max(255.0 * float(np.std(noises[0][1])), 0.5)), 1, 16))
    pictures += [(f"{name} x{gain:g}", residual_view(noise, gain)) for name, noise in noises]
    caption = fake.name if same else f"{real.name} (real) and {fake.name} (synthetic): different scenes"
    return CropRow(caption, pictures)


def _window(pixels: Pixels) -> tuple[slice, slice]:
    """A centred window, a little to the left, on even pixels."""
    height, width = pixels.shape[:2]
    top, left = max(0, height - SHOWN_CROP) // 4 * 2, max(0, width - SHOWN_CROP) // 6 * 2
    return slice(top, top + SHOWN_CROP), slice(left, left + SHOWN_CROP)
