"""Realism step: how real a method's degradations are, measured before any restorer is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deflow_cli.arrays import Pixels
from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.data.images.files import Image, read_rgb8, to_pixels, to_tensor, write_image
from deflow_cli.data.images.listing import list_images
from deflow_cli.degraders.base import DegraderContext, Draw
from deflow_cli.runtime.device import choose_device
from deflow_cli.texts import json_text
from deflow_cli.workflows.realism.run import RealismRequest, measure_realism
from deflow_cli.workflows.reproduce.experiments import SR_SCALE
from deflow_cli.workflows.reproduce.methods import Method
from deflow_cli.workflows.reproduce.steps.base import Bench, ExperimentStep, degrader_for
from deflow_cli.workflows.reproduce.steps.ledger import Facts

MEASURED = {  # column of the table: section and name of the figure in `deflow score --realism`
    "akld": ("residuals", "AKLD"),
    "kl": ("residuals", "KL of histograms"),
    "acf": ("residuals", "autocorrelation"),
    "psd": ("residuals", "spectrum"),
    "flat_kl": ("flat patches", "KL of histograms"),
    "flat_acf": ("flat patches", "autocorrelation"),
    "flat_psd": ("flat patches", "spectrum"),
    "kid": ("told apart by", "KID, NSS features"),
    "kid_inception": ("told apart by", "KID, Inception"),
    "cnn": ("told apart by", "a small CNN"),
}
_DEGRADED = "degraded"


def realism_name(method: str, seed: int) -> str:
    """The step that measures how real a method's degradations are."""
    return f"realism/{method}/seed{seed}"


@dataclass(frozen=True)
class RealismStep(ExperimentStep):
    """Clean validation images made small and degraded, against the real inputs of the same scenes.

    Where there is no ground truth (DPED), clean training images are degraded, and other scenes compared.
    """

    method: Method
    seed: int

    def run(self, bench: Bench) -> Facts:
        folder, recipe = bench.ledger.folder(self.name), bench.recipe
        paired = "valid_truth" in bench.layout.parts
        plain = "clean_small" if self.method.blurred or not bench.experiment.blurs else "clean_plain"
        clean = bench.folder_of("valid_small" if paired else plain)
        images = spread(list_images(clean), recipe.images or len(bench.layout.parts["valid_input"].images))
        degrade_images(clean, images, folder / _DEGRADED, self.method, self.seed, bench)
        request = RealismRequest(
            bench.folder_of("valid_input"),
            (folder / _DEGRADED,),
            (clean,),
            seed=0,
            device=bench.device,
            quick=recipe.small,
            html=None if recipe.small else folder / "realism.html",
        )
        report = measure_realism(request, bench.reporter)
        write_atomically(folder / "realism.json", (json_text(report.as_dict(), indent=1) + "\n").encode())
        found = {(row.section, row.name): row.value for row in report.figures()[0]}
        return {
            key: found[name] for key, name in MEASURED.items() if math.isfinite(found.get(name, math.nan))
        }


def degrade_images(
    root: Path, images: Sequence[Path], target: Path, method: Method, seed: int, bench: Bench
) -> None:
    """Degrade small clean images, as they are, to files of the same names; those that exist are kept."""
    device = choose_device(bench.device)
    config = degrader_for(method, seed, bench).config()
    device = device if config.runs_on_device else choose_device("cpu")
    ready = config.prepare(DegraderContext(images, SR_SCALE, "deflow", device, bench.reporter))
    bench.reporter.start(f"degrading by {method.name}", len(images))
    for done, path in enumerate(images, start=1):
        name = path.relative_to(root).as_posix()
        if not (target / name).is_file():
            draw = Draw(seed, name)
            pixels = read_rgb8(path) if ready.shrinks is None else _large(path.relative_to(root), bench)
            degraded = ready.degrader.degrade(to_tensor(pixels).to(device), [draw])
            write_image(target / name, Image(to_pixels(degraded)))
        bench.reporter.update(done)
    bench.reporter.finish()


def _large(name: Path, bench: Bench) -> Pixels:
    """The clean validation image at full size, for a degrader that makes it small itself."""
    truth = bench.layout.parts["valid_truth"]
    named = {path.relative_to(truth.folder).with_suffix(".png"): path for path in truth.images}
    pixels = read_rgb8(named[name])
    height, width = (side // SR_SCALE * SR_SCALE for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width])


def spread(images: Sequence[Path], most: int) -> list[Path]:
    """At most so many of the images, evenly spread."""
    if len(images) <= most:
        return list(images)
    return [images[place] for place in np.linspace(0, len(images) - 1, most).round().astype(int)]
