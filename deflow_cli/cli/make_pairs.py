"""`deflow make-pairs`: a data set of clean and degraded pairs for training a restorer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConfigError
from .console import ConsoleReporter, format_seconds, print_json, show_path
from .degrade import parse_temperature
from .options import AsJson, Debug, Device, check_device, check_folder, check_source, model_file


def make_pairs(
    source: Annotated[
        Path, typer.Argument(metavar="HR", help="A folder of clean images (recursive), or one image.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the data set.")],
    degrader: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="deflow, white-noise, spectral, noise-patches or none (default: deflow).",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For deflow: a model or a run folder (default: the newest fit here, else the embedded one).",
        ),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(metavar="1|2|3|4|8", help="How many times smaller the degraded side is (default: 4)."),
    ] = None,
    temperature: Annotated[
        str | None,
        typer.Option(
            metavar="T|LOW:HIGH",
            help="Strength of the noise, or a range drawn from per image and variant (default: 1).",
        ),
    ] = None,
    variants: Annotated[
        int | None, typer.Option(min=1, help="Degradations of each image (default: 1).")
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(min=1, help="Cut sub-images of this side, in pixels of HR (default: whole images)."),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(min=1, help="Pixels from one sub-image to the next (default: half of --crop)."),
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Rounding of the bicubic: matlab, deflow or matlab-double (default: matlab).",
        ),
    ] = None,
    kernels: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Blur kernels (.mat with Kernel, .npy), one drawn per image and variant."
        ),
    ] = None,
    kernel_sampling: Annotated[
        str | None,
        typer.Option(
            metavar="bicubic|direct",
            help="After the kernel: bicubic, or every scale-th pixel, for kernels that are the whole "
            "downsampling, such as KernelGAN's (default: bicubic).",
        ),
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="For white-noise: std in grey levels of 255 (default: that of --noisy's flat patches).",
        ),
    ] = None,
    noisy: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Degraded images that white-noise, spectral and noise-patches learn from."
        ),
    ] = None,
    clean: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For spectral: clean images (default: HR, made small)."),
    ] = None,
    flattest: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="For spectral: use this share of each image's patches, the flattest, and match the power of "
            "the contents (default: 1, all patches and the plain difference).",
        ),
    ] = None,
    patch_size: Annotated[
        int | None, typer.Option(min=1, help="For noise-patches: their side in pixels (default: 256).")
    ] = None,
    patch_variance: Annotated[
        float | None,
        typer.Option(
            min=0, help="For noise-patches: flatter than this, in grey levels squared (default: 20)."
        ),
    ] = None,
    patch_mean: Annotated[
        float | None, typer.Option(min=0, help="For noise-patches: brighter than this, of 255 (default: 0).")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="folders, lmdb or webdataset (default: folders)."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed gives the same pairs (default: 0).")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Make the data set of this deflow.json again, bit for bit; it stands for the options above, "
            "but for the places of model, folders and kernels.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Threads; the result does not depend on them (default: all cores)."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check the images, tell counts, sizes, disk and time; write nothing."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a data set of deflow's in OUT; never other files.")
    ] = False,
    device: Device = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a data set of clean and degraded pairs; run again, it goes on where it was interrupted.

    HR -> cropped to a multiple of the scale -> blur kernel, if any -> bicubic -> degradation -> PNG.
    """
    check_device(device)
    check_source(source)
    for folder, name in ((kernels, "--kernels"), (noisy, "--noisy"), (clean, "--clean")):
        if folder is not None:
            check_folder(folder, name)
    places: dict[str, Any] = {
        "model": model_file(model) if model is not None else None,
        "noisy": noisy,
        "clean": clean,
    }
    of_degrader = given(
        name=degrader,
        sigma=sigma,
        flattest=flattest,
        patch_size=patch_size,
        patch_variance=patch_variance,
        patch_mean=patch_mean,
    )
    of_pairs = given(
        scale=scale,
        temperature=parse_temperature(temperature) if temperature is not None else None,
        variants=variants,
        crop=crop,
        stride=stride,
        resize=resize,
        kernel_sampling=kernel_sampling,
        format=form,
        seed=seed,
    )
    if manifest is not None and (of_degrader or of_pairs):
        option = next(iter({**of_pairs, **of_degrader})).replace("_", "-").replace("name", "degrader")
        raise ConfigError(
            f"--{option} and --manifest: the manifest says that already",
            next_step="leave out one of the two",
        )

    from ..workflows import make_pairs as workflow

    with ConsoleReporter() as reporter:
        request = workflow.MakePairsRequest(
            source=source,
            target=target,
            settings=workflow.PairSettings(**of_pairs),
            degrader=workflow.DegraderChoice(**places, **of_degrader),
            kernels=kernels,
            manifest=manifest,
            workers=workers,
            device=device,
            dry_run=dry_run,
            overwrite=overwrite,
        )
        report = workflow.make_pairs(request, reporter)

    if as_json:
        print_json(report)
    else:
        for line in told(report):
            typer.echo(line)


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def told(report: Any) -> list[str]:
    """A report in words."""
    what = f"{report.pairs} pairs of {report.images} images"
    sizes = f"gt {_sizes(report.gt_sizes)}, lq {_sizes(report.lq_sizes)}"
    where = f"{show_path(report.target)} ({report.format})"
    if report.estimate is not None:
        estimate = report.estimate
        lines = [
            f"would write {what} to {where}",
            f"{sizes}; about {show_bytes(estimate.bytes)}; {show_bytes(estimate.free)} are free",
            f"about {format_seconds(max(1.0, estimate.seconds))} with {report.workers} workers",
        ]
    elif report.written == 0:
        lines = [f"{what} are in {where} already"]
    else:
        rest = f", {report.pairs - report.written} of them before" if report.written < report.pairs else ""
        lines = [f"{what} in {where}{rest}", f"{sizes}; {format_seconds(report.seconds)}"]
    out = f"{len(report.left_out)} left out" if report.left_out else ""
    doubtful = f"{len(report.doubtful)} doubtful" if report.doubtful else ""
    if out or doubtful:
        lines.append(f"images: {', '.join(part for part in (out, doubtful) if part)}")
    name = report.degrader["name"]
    model = f": {show_path(report.model)} ({report.model_origin})" if report.model is not None else ""
    lines.append(f"degrader: {name}{model}")
    return lines


def show_bytes(count: int) -> str:
    """``12 kB``, ``2.5 MB``, ``310 GB``."""
    for size, unit in ((1e9, "GB"), (1e6, "MB")):
        if count >= size:
            amount = count / size
            return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:.0f} {unit}"
    return f"{count / 1e3:.0f} kB"


def _sizes(sizes: tuple[tuple[int, int], tuple[int, int]]) -> str:
    smallest, largest = (f"{width}x{height}" for height, width in sizes)
    return smallest if smallest == largest else f"{smallest} to {largest}"
