"""Preparing steps: blur kernels of photographs, and clean images made small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deflow_cli.arrays import Pixels
from deflow_cli.config.kernels import KernelSettings
from deflow_cli.data.blur.kernels import BlurKernel, KernelSampling, blur_and_downsample, load_kernels
from deflow_cli.data.images.files import Image, read_rgb8, write_image
from deflow_cli.data.images.resize import Rule, downsample
from deflow_cli.errors import DataError
from deflow_cli.inference.positional_noise import stable_generator
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.kernels.run import KernelsRequest, estimate_kernels
from deflow_cli.workflows.pairs.making import automatic_workers, one_torch_thread
from deflow_cli.workflows.pairs.sources import in_order
from deflow_cli.workflows.reproduce.experiments import SR_SCALE
from deflow_cli.workflows.reproduce.steps.base import (
    CLEAN_PLAIN,
    CLEAN_SMALL,
    VALID_SMALL,
    Bench,
    ExperimentStep,
)
from deflow_cli.workflows.reproduce.steps.ledger import Facts

RULE: Rule = "deflow"
SAMPLING: KernelSampling = "direct"  # a kernel is the whole down-sampling, as KernelGAN estimates it


@dataclass(frozen=True)
class KernelsStep(ExperimentStep):
    """Blur kernels of the first so many degraded images, as ``deflow kernels`` estimates them."""

    images: int
    kernels: KernelSettings

    def run(self, bench: Bench) -> Facts:
        request = KernelsRequest(
            bench.folder_of("noisy"),
            bench.ledger.folder(self.name),
            self.kernels,
            limit=self.images,
            device=bench.device,
        )
        report = estimate_kernels(request, bench.reporter)
        made = len(report.records) + len(report.kept)
        if not made:
            path, reason = report.failed[0]
            raise DataError(f"{path}: {reason}", next_step="pass a folder of blur kernels as --kernels")
        return {"kernels": made, "failed": len(report.failed)}


@dataclass(frozen=True)
class PrepareStep(ExperimentStep):
    """The clean side at the scale of the degraded images, and the validation's clean images alike.

    Each image is cropped from its upper left corner to a multiple of the experiment's factor, so that every
    scale is whole, and made small by MATLAB's bicubic with halves rounded to even, as DeFlow's data were; or,
    where the experiment has kernels, by one of them, and plainly too.
    """

    def run(self, bench: Bench) -> Facts:
        folder, factor = bench.ledger.folder(self.name), bench.experiment.factor
        kernels = [] if bench.kernels_folder is None else load_kernels(bench.kernels_folder)
        parts, reporter = bench.layout.parts, bench.reporter
        source = parts["noisy" if bench.experiment.clean_is_noisy else "clean"]
        make_small(source.folder, source.images, folder / CLEAN_SMALL, factor, kernels, reporter)
        if kernels:
            make_small(source.folder, source.images, folder / CLEAN_PLAIN, factor, (), reporter)
        truth = parts.get("valid_truth")
        if truth is not None:
            make_small(truth.folder, truth.images, folder / VALID_SMALL, SR_SCALE, (), reporter)
        return {"clean": len(source.images), "kernels": len(kernels)}


def make_small(
    root: Path,
    images: Sequence[Path],
    target: Path,
    factor: int,
    kernels: Sequence[BlurKernel],
    reporter: Reporter,
) -> None:
    """Write images, `SR_SCALE` times smaller, under their names as PNG; those that exist are kept.

    factor: images are cropped to a multiple of it. kernels: one of them, drawn by the image's name, makes
    each image small. Raises DataError where an image is smaller than ``factor``.
    """
    names = {path: path.relative_to(root).with_suffix(".png").as_posix() for path in images}
    todo = [path for path, name in names.items() if not (target / name).is_file()]
    make = partial(_small, names=names, factor=factor, kernels=kernels)
    reporter.start(f"making {target.name}", len(todo))
    with one_torch_thread():
        for done, (name, pixels) in enumerate(in_order(make, todo, automatic_workers()), start=1):
            write_image(target / name, Image(pixels))
            reporter.update(done)
    reporter.finish()


def _small(
    path: Path, *, names: dict[Path, str], factor: int, kernels: Sequence[BlurKernel]
) -> tuple[str, Pixels]:
    pixels, name = read_rgb8(path), names[path]
    height, width = (side // factor * factor for side in pixels.shape[:2])
    if not height or not width:
        raise DataError(f"{path}: smaller than {factor} px", next_step="take it out of its folder")
    cropped = pixels[:height, :width]
    if not kernels:
        return name, downsample(cropped, SR_SCALE, RULE)
    drawn = kernels[int(stable_generator(0, name, "kernel").integers(len(kernels)))]
    return name, blur_and_downsample(cropped, drawn, SR_SCALE, RULE, SAMPLING)
