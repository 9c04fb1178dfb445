"""`deflow make-pairs`: a data set of clean and degraded pairs for training a restorer."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import typer

from deflow_cli.cli.console import ConsoleReporter, format_seconds, print_json, show_path
from deflow_cli.cli.degradation.degrade import parse_temperature
from deflow_cli.cli.options import AsJson, Debug, Device, check_device, check_folder, check_source
from deflow_cli.cli.restoration import make_pairs_options as options
from deflow_cli.cli.restoration.degrader_options import NO_DEGRADER, GivenDegrader, with_degrader_options
from deflow_cli.config.shards import Shard
from deflow_cli.errors import ConfigError


def make_pairs_command() -> Callable[..., None]:
    """The command, with the options of all degraders that are registered."""
    return with_degrader_options(make_pairs, names="{names} (default: deflow).", clean="HR")


def make_pairs(
    source: options.Source,
    target: options.Target,
    degrader: GivenDegrader = NO_DEGRADER,
    scale: options.Scale = None,
    temperature: options.Temperature = None,
    variants: options.Variants = None,
    crop: options.Crop = None,
    stride: options.Stride = None,
    resize: options.Resize = None,
    kernels: options.Kernels = None,
    kernel_sampling: options.KernelSampling = None,
    form: options.Form = None,
    seed: options.Seed = None,
    manifest: options.Manifest = None,
    workers: options.Workers = None,
    shard: options.ShardText = None,
    merge: options.Merge = False,
    engine: options.EngineName = "local",
    dry_run: options.DryRun = False,
    overwrite: options.Overwrite = False,
    device: Device = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a data set of clean and degraded pairs; run again, it goes on where it was interrupted.

    HR -> cropped to a multiple of the scale -> blur kernel, if any -> bicubic -> degradation -> PNG.
    """
    check_device(device)
    check_source(source, "HR")
    if kernels is not None:
        check_folder(kernels, "--kernels")
    part = Shard.parse(shard, os.environ) if shard is not None else None
    of_degrader = degrader.arguments()
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
    recipe = of_pairs | degrader.recipe
    if manifest is not None and recipe:
        option = next(iter(recipe)).replace("_", "-")
        raise ConfigError(
            f"--{option} and --manifest: the manifest says that already",
            next_step="leave out one of the two",
        )

    from deflow_cli.workflows.pairs import run as workflow

    with ConsoleReporter() as reporter:
        request = workflow.MakePairsRequest(
            source=source,
            target=target,
            settings=workflow.PairSettings(**of_pairs),
            degrader=workflow.DegraderChoice(**of_degrader),
            kernels=kernels,
            manifest=manifest,
            workers=workers,
            device=device,
            dry_run=dry_run,
            overwrite=overwrite,
            shard=part,
            merge=merge,
            engine=engine,
        )
        report = workflow.make_pairs(request, reporter)

    if as_json:
        print_json(report)
    else:
        for line in describe_pairs(report):
            typer.echo(line)


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def describe_pairs(report: Any) -> list[str]:
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
    elif report.shard:
        lines = [f"shard {report.shard}: {what} in {where}, {report.written} of them made now"]
        lines.append(f"{format_seconds(report.seconds)}; when all shards are done: --merge")
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
