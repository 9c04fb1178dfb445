"""`deflow score --realism`: how real synthetic degradations are, in figures, sentences and pictures."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deflow_cli.arrays import Pixels
from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.errors import DataError
from deflow_cli.metrics.noise.comparison import ResidualStatistics
from deflow_cli.reports.pages.realism_page import render_realism
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.progress import Reporter
from deflow_cli.texts import encoded
from deflow_cli.workflows.realism.assess import Assessment, Features, RealSide, assess, measure_real
from deflow_cli.workflows.realism.data import NoisySet, clean_index, load_set
from deflow_cli.workflows.realism.figures import Figure, figures
from deflow_cli.workflows.realism.view import realism_page

INCEPTION_SIDE = 128
INCEPTION_PATCHES = 16  # of a picture


@dataclass(frozen=True)
class RealismRequest:
    """What `deflow score --realism` was asked to do.

    clean: folders in which either side's pictures find their clean partners by name. inception_weights: for
    a second KID. quick: shorter training of the classifiers. html, csv: files to write.
    """

    real: Path
    synthetic: tuple[Path, ...]
    clean: tuple[Path, ...] = ()
    seed: int = 0
    device: str = "auto"
    inception_weights: Path | None = None
    quick: bool = False
    html: Path | None = None
    csv: Path | None = None


@dataclass(frozen=True)
class RealismReport:
    """What was found: the real side once, and an assessment of each synthetic folder."""

    real: RealSide
    assessments: tuple[Assessment, ...]

    def figures(self) -> list[list[Figure]]:
        """The figures of each synthetic folder."""
        return [figures(self.real, found) for found in self.assessments]

    def as_dict(self) -> dict[str, Any]:
        """Everything but pictures, as plain values."""
        return {
            "real": _describe(self.real.images),
            "synthetic": [
                {
                    **_describe(found.images),
                    "findings": [asdict(finding) for finding in found.findings],
                    "figures": [asdict(row) for row in rows],
                    "left_out": list(found.left_out),
                }
                for found, rows in zip(self.assessments, self.figures(), strict=True)
            ],
        }


def _describe(images: NoisySet) -> dict[str, Any]:
    return {
        "name": images.name,
        "images": len(images.images),
        "of": images.total,
        "with_clean": len(images.with_clean),
        "samples": max(len(image.samples) for image in images.images),
    }


@hears_remarks
def measure_realism(request: RealismRequest, reporter: Reporter) -> RealismReport:
    """Compare folders of synthetic degradations with a folder of real ones; write the files asked for.

    At most 200 scenes of a folder, windows of at most 768 px. Raises DataError for a folder that cannot be
    used, CheckpointError for weights that cannot.
    """
    for folder in (request.real, *request.synthetic, *request.clean):
        if not folder.exists():
            raise DataError(f"{folder}: no such folder", next_step="pass folders of images")
    names = unique_names(request.synthetic)
    cleans = clean_index(request.clean)
    inception = _inception(request)
    real_images = load_set(request.real, cleans, reporter)
    _tell_partners(real_images, bool(request.clean), reporter)
    real = measure_real(real_images, request.seed, request.quick, inception, reporter)
    found = []
    for folder, name in zip(request.synthetic, names, strict=True):
        loaded = load_set(folder, cleans, reporter, samples=True)
        loaded = NoisySet(name, loaded.images, loaded.total)
        _tell_partners(loaded, bool(request.clean), reporter)
        found.append(
            assess(
                real, loaded, seed=request.seed, quick=request.quick, inception=inception, reporter=reporter
            )
        )
    report = RealismReport(real, tuple(found))
    _write(request, report)
    return report


def unique_names(folders: tuple[Path, ...]) -> list[str]:
    """The folders' names, with their parents' where two are equal."""
    names = [folder.resolve().name for folder in folders]
    return [
        f"{folder.resolve().parent.name}/{name}" if names.count(name) > 1 else name
        for folder, name in zip(folders, names, strict=True)
    ]


def _tell_partners(images: NoisySet, expected: bool, reporter: Reporter) -> None:
    """Say how many pictures have a clean partner."""
    count, total = len(images.with_clean), len(images.images)
    if expected and 0 < count < total:
        reporter.note(
            f"{images.name}: {count} of {total} pictures have a clean partner; residuals are of those"
        )
    elif not count:
        reporter.note(f"{images.name}: no clean partners, so its noise is judged in flat patches")


def _inception(request: RealismRequest) -> Features | None:
    """Features of 128 px patches, where the weights are given."""
    if request.inception_weights is None:
        return None
    from deflow_cli.metrics.distances.inception import InceptionFeatures

    network = InceptionFeatures(request.inception_weights, choose_device(request.device))

    def features(picture: Pixels) -> NDArray[np.float64]:
        side = min(INCEPTION_SIDE, *picture.shape[:2])
        corners = [
            (y, x)
            for y in range(0, picture.shape[0] - side + 1, side)
            for x in range(0, picture.shape[1] - side + 1, side)
        ]
        chosen = corners[:: -(-len(corners) // INCEPTION_PATCHES)]
        patches = np.stack([picture[y : y + side, x : x + side] for y, x in chosen])
        return network(torch.from_numpy(patches).permute(0, 3, 1, 2)).double().cpu().numpy()

    return features


def _write(request: RealismRequest, report: RealismReport) -> None:
    """Write the page and the table per image, where asked for."""
    outputs = [(request.html, realism_html), (request.csv, per_image_csv)]
    for path, render in outputs:
        if path is not None:
            write_atomically(path, encoded(render(report)))


def realism_html(report: RealismReport) -> str:
    """The page about it."""
    return render_realism(realism_page(report.real, report.assessments))


def per_image_csv(report: RealismReport) -> str:
    """Figures of every image: set, image, figure, value. Residual ones need its clean partner."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(("set", "image", "figure", "value"))
    sides = [(f"real:{report.real.images.name}", report.real.images, report.real.residuals)]
    sides += [(found.name, found.images, found.residuals) for found in report.assessments]
    for name, images, residuals in sides:
        if residuals is not None:
            for row, image in enumerate(images.with_clean):
                one = residuals[row : row + 1]
                for figure, value in _of_image(one).items():
                    writer.writerow((name, image.name, figure, f"{value:.8g}"))
    for found in report.assessments:
        for image_name, distances in found.scenes.items():
            for figure, value in distances.items():
                writer.writerow((found.name, image_name, figure, f"{value:.8g}"))
        if found.two_sample is not None:
            shares = found.two_sample.per_image_fake
            for image, share in zip(found.images.images, shares, strict=True):
                writer.writerow((found.name, image.name, "told_as_synthetic", f"{share:.8g}"))
    return lines.getvalue()


def _of_image(one: ResidualStatistics) -> dict[str, float]:
    """What one image's residual says, levels on the 0..255 scale."""
    figures = {"std": one.std * 255.0, "excess_kurtosis": one.excess_kurtosis}
    channels = zip(("red", "green", "blue"), one.colour_shift, strict=True)
    figures |= {f"shift_{name}": float(value) * 255.0 for name, value in channels}
    pairs = zip(("red_green", "green_blue", "red_blue"), one.channel_correlation, strict=True)
    figures |= {f"correlation_{name}": float(value) for name, value in pairs}
    right, down = one.autocorrelation.mean(axis=0)[4, 5], one.autocorrelation.mean(axis=0)[5, 4]
    return figures | {"neighbour_right": float(right), "neighbour_down": float(down)}
