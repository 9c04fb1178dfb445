"""Restore: every image of a folder through a restorer, to files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.checkpoints.registry import FoundModel, embedded_restorer, local_copy, packaged_folder
from deflow_cli.checkpoints.restorer import load_restorer
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.data.images.encoding import check_sides
from deflow_cli.data.images.files import Image, read_image, to_pixels, to_tensor, write_image
from deflow_cli.data.images.outputs import PlannedOutput
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.data.images.resize import rescale
from deflow_cli.data.video.frames import is_video
from deflow_cli.errors import CheckpointError, ConfigError, DataError, naming
from deflow_cli.inference.restoring import Restorer
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.paths import RESTORER_FILE, RUNS_FOLDER
from deflow_cli.runtime.cuda_graphs import GraphCache
from deflow_cli.runtime.device import choose_device, choose_precision
from deflow_cli.runtime.memory import available_memory
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.image_jobs import Tell, plan_images, run_images
from deflow_cli.workflows.images.video import ChangeImage, VideoJob, plan_video, run_video
from deflow_cli.workflows.super_resolve import (
    SpaceJob,
    SpaceOptions,
    SpaceRecord,
    enlarged_alpha,
    whole_numbers,
)

EMBEDDED = "embedded"  # how a restorer was found that comes with the package
MEMORY_SHARE = 0.5  # of the free memory, for the network; the rest is for pictures and other programs


@dataclass(frozen=True)
class RestoreRequest:
    """What `deflow restore` was asked for.

    source: an image or a folder. target: an image or a folder to write. model: a file or a run folder; None:
    the newest of a run here. outscale: size of the output over the size of the input; None: the restorer's.
    tile: side in input pixels; None: chosen by memory, 0: none. tile_pad: overlap of tiles in input pixels;
    None: what leaves no seam. suffix: added to names. ext: ``auto`` or an image suffix. tta: the mean over
    the eight turned and mirrored variants. fp32: no bfloat16, which is the choice on CUDA. space: for
    restorers that give samples.
    """

    source: Path
    target: Path
    model: Path | None = None
    outscale: float | None = None
    tile: int | None = None
    tile_pad: int | None = None
    suffix: str = ""
    ext: str = "auto"
    skip_existing: bool = False
    tta: bool = False
    fp32: bool = False
    device: str = "auto"
    space: SpaceOptions = field(default_factory=SpaceOptions)


@dataclass(frozen=True)
class RestoreRecord:
    """One image done. width, height: of the output. seconds: reading to writing."""

    source: Path
    target: Path
    width: int
    height: int
    seconds: float


@dataclass(frozen=True)
class RestoreReport:
    """What was done: the restorer and how it was found, its scale and the outputs', and each image's fate.

    Of an SRFlow also the samples' mean LR-PSNR in dB, and the share of values that had to be clamped by more
    than 0.05.
    """

    model: Path
    model_origin: str
    scale: int
    outscale: float
    records: Sequence[RestoreRecord | SpaceRecord] = ()
    skipped: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    lr_psnr: float | None = None
    strayed: float = 0.0


def default_restorer(given: Path | None, outscale: float | None = None) -> FoundModel:
    """The restorer given, else the newest of a run here, else the embedded one for that ``outscale``.

    Raises CheckpointError where there is none.
    """
    enlarges = outscale is not None and outscale > 1
    return find_restorer(given, Path.cwd(), embedded_restorer(packaged_folder(), enlarges=enlarges))


def find_restorer(given: Path | None, working: Path, embedded: Path | None = None) -> FoundModel:
    """The restorer given (a file, its folder, or a name on the Hub), else the newest of ``working``/runs.

    embedded: what is taken where there is neither. Raises CheckpointError where there is none.
    """
    if given is not None:
        known = local_copy(given, RESTORER_FILE)
        path = known.path / RESTORER_FILE if known.path.is_dir() else known.path
        if not path.is_file():
            raise CheckpointError(
                f"{path}: no such restorer",
                next_step=f"pass an ESRGAN file, or a folder with {RESTORER_FILE}",
            )
        return FoundModel(path, known.origin)
    found = [path for path in (working / RUNS_FOLDER).glob(f"*/{RESTORER_FILE}") if path.is_file()]
    if not found and embedded is not None:
        return FoundModel(embedded, EMBEDDED)
    if not found:
        raise CheckpointError(
            f"there is no {RUNS_FOLDER}/*/{RESTORER_FILE} here, and no restorer is embedded",
            next_step="train one: deflow sr-train PAIRS, or name any ESRGAN file with --model",
        )
    newest = max(found, key=lambda path: (path.stat().st_mtime_ns, path.as_posix()))
    return FoundModel(newest, "newest restorer here")


@hears_remarks
def restore(request: RestoreRequest, reporter: Reporter) -> RestoreReport:
    """Restore images to files; a bad file is reported and the rest goes on.

    An SRFlow gives samples, as ``request.space`` says. Raises DeflowError for what concerns all images: no
    restorer, no images, no such device, options that are nothing to the restorer.
    """
    planned, video = _plan(request)
    found = default_restorer(request.model, request.outscale)
    device = choose_device(request.device)
    model, _ = load_restorer(found.path, tell=reporter.note)
    if isinstance(model, SRFlow):
        return _super_resolve(request, planned, video, found, model, device, reporter)
    if request.space.given:
        raise ConfigError(
            f"{found.path}: gives one image and no samples, {request.space.given[0]} is nothing to it",
            next_step=f"leave {request.space.given[0]} out, or pass an SRFlow as --model",
        )
    dtype = choose_precision("fp32" if request.fp32 or device.type == "cpu" else "auto", device)
    config = model.config
    if config.image_channels not in (1, 3):
        raise CheckpointError(
            f"{found.path}: restores images of {config.image_channels} channels", next_step="use 1 or 3"
        )
    reporter.note(f"restorer: {found.path} ({found.origin}), {_sizes(config)}, on {device}{_in(dtype)}")
    if found.origin == EMBEDDED:
        reporter.note(
            "it is a general one, for camera noise; one for your images: deflow fit CLEAN NOISY, then "
            f"deflow sr-train --hr CLEAN --scale {config.scale}"
        )
    restorer = Restorer(
        model,
        device,
        tile=request.tile,
        tile_pad=request.tile_pad,
        dtype=dtype,
        tta=request.tta,
        memory=int(MEMORY_SHARE * available_memory(device)),
        notify=reporter.warn,
        graphs=GraphCache,
    )
    outscale = request.outscale or float(config.scale)
    if video is not None:

        def change(number: int, image: Image) -> NDArray[Any]:
            return _pixels(image, *_enlarged_sides(image, outscale), restorer, lambda share: None)

        return _restore_video(request, video, found, config.scale, change, reporter)
    done = run_images(
        planned,
        lambda item, tell: _one(item, outscale, restorer, tell),
        reporter,
        title="restoring",
        skip_existing=request.skip_existing,
    )
    return RestoreReport(
        found.path, found.origin, config.scale, outscale, done.records, done.skipped, done.failed
    )


def _plan(request: RestoreRequest) -> tuple[list[PlannedOutput], VideoJob | None]:
    """The images to write, or the video."""
    space = request.space
    if is_video(request.source):
        if space.sheet is not None:
            raise ConfigError(
                f"--sheet is for images, but {request.source} is a video",
                next_step="take a folder of its frames",
            )
        return [], plan_video(
            request.source, request.target, samples=space.samples, ext=request.ext, tag=request.suffix
        )
    planned = plan_images(
        request.source,
        request.target,
        ext=request.ext,
        samples=space.samples,
        tag=request.suffix,
        keep_alpha=True,
    )
    return planned, None


def _restore_video(
    request: RestoreRequest,
    video: VideoJob,
    found: FoundModel,
    scale: int,
    change: ChangeImage,
    reporter: Reporter,
) -> RestoreReport:
    """Restore the frames of a video, unless it is there and is to be skipped."""
    records, skipped = [], []
    if request.skip_existing and video.target.exists():
        skipped.append(video.source)
    else:
        done = run_video(video, change, reporter, title="restoring")
        records.append(RestoreRecord(video.source, video.target, done.width, done.height, done.seconds))
    outscale = request.outscale or float(scale)
    return RestoreReport(found.path, found.origin, scale, outscale, records, skipped)


def _super_resolve(
    request: RestoreRequest,
    planned: Sequence[PlannedOutput],
    video: VideoJob | None,
    found: FoundModel,
    model: SRFlow,
    device: torch.device,
    reporter: Reporter,
) -> RestoreReport:
    if request.tta:
        raise ConfigError("--tta is nothing to an SRFlow", next_step="leave it out; --samples gives variants")
    outscale = request.outscale or float(model.scale)
    job = SpaceJob(model, device, request.space, outscale, request.tile, request.tile_pad)
    reporter.note(
        f"restorer: {found.path} ({found.origin}), SRFlow x{model.scale}, temperature {job.temperature:g}, "
        f"on {device}"
    )
    if video is not None:

        def change(number: int, image: Image) -> NDArray[Any]:
            return job.frame(image, video.key)

        return _restore_video(request, video, found, model.scale, change, reporter)
    done = job.run(planned, reporter, skip_existing=request.skip_existing)
    consistency = [value for record in done.records for value in record.lr_psnr]
    return RestoreReport(
        found.path,
        found.origin,
        model.scale,
        outscale,
        done.records,
        done.skipped,
        done.failed,
        lr_psnr=float(np.mean(consistency)) if consistency else None,
        strayed=float(np.mean([record.strayed for record in done.records])) if done.records else 0.0,
    )


def _sizes(config: RestorerConfig) -> str:
    return f"x{config.scale}, {config.blocks} blocks of {config.channels} channels"


def _in(dtype: torch.dtype | None) -> str:
    return "" if dtype is None else f" in {str(dtype).removeprefix('torch.')}"


def _one(item: PlannedOutput, outscale: float, restorer: Restorer, tell: Tell) -> RestoreRecord:
    """Read, restore and write one image. Raises DeflowError naming the file."""
    started = time.perf_counter()
    image = read_image(item.source)
    target = item.targets[0]
    height, width = _enlarged_sides(image, outscale)
    check_sides(item.source, target.suffix, height, width)
    with naming(item.source, but=(DataError,)):
        pixels = _pixels(image, height, width, restorer, tell)
    alpha = None if image.alpha is None else enlarged_alpha(image.alpha, height, width)
    write_image(target, replace(image, pixels=pixels, alpha=alpha))
    return RestoreRecord(item.source, target, width, height, time.perf_counter() - started)


def _enlarged_sides(image: Image, outscale: float) -> tuple[int, int]:
    """Height and width of an output."""
    height, width = (max(1, int(side * outscale + 0.5)) for side in image.pixels.shape[:2])
    return height, width


def _pixels(image: Image, height: int, width: int, restorer: Restorer, tell: Tell) -> NDArray[Any]:
    """Restored pixels, height x width x 3, of the image's depth."""
    tensor = to_tensor(image.pixels)
    if image.gray and restorer.config.image_channels == 1:
        tensor = tensor[:, :1]  # the three are equal
    restored = tuple(side * restorer.scale for side in image.pixels.shape[:2])
    resized = restored != (height, width)
    result = np.empty((*restored, 3), np.float32 if resized else image.pixels.dtype)

    def write(window: Window, piece: Tensor) -> None:
        values = piece.expand(-1, 3, -1, -1)
        if resized:
            result[window.slices] = values[0].clamp(0, 1).permute(1, 2, 0).cpu().numpy()
        else:
            result[window.slices] = to_pixels(values, image.bits)

    restorer.restore(tensor, write, precise=image.bits == 16, tell=tell)
    return whole_numbers(rescale(result, height, width), image.bits) if resized else result
