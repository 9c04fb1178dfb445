"""Degrade (or restore) the images of a folder by a fitted flow, and write the results to files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.checkpoints.format import load_model
from deflow_cli.checkpoints.registry import FoundModel, default_model, method_of_model
from deflow_cli.data.images.encoding import check_sides
from deflow_cli.data.images.files import Image, read_image, to_tensor, write_image
from deflow_cli.data.images.listing import list_images
from deflow_cli.data.images.outputs import PlannedOutput
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.data.video.frames import is_video
from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.flow.compression import SampleCompression
from deflow_cli.errors import ConfigError, DataError, naming
from deflow_cli.inference.positional_noise import stable_generator
from deflow_cli.inference.sampling.clip_noise import ClipNoise, check_correlation, clip_of
from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job, draw_components
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution, shift_like
from deflow_cli.runtime.cuda_graphs import GraphedFunction
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.memory import available_memory
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.image_jobs import (
    Submit,
    Wait,
    at_once,
    plan_images,
    run_images,
    run_images_overlapped,
)
from deflow_cli.workflows.images.pixels import sample_pixels
from deflow_cli.workflows.images.strengths import check_sheet, write_strength_sheet
from deflow_cli.workflows.images.translated import translate_images
from deflow_cli.workflows.images.video import VideoJob, plan_video, run_video

OUTPUT_BUDGET = 384 << 20  # bytes of finished samples that are held in memory before they are written
MOST_REFERENCES = 16  # images of a reference folder that its shift is estimated from


@dataclass(frozen=True)
class DegradeRequest:
    """What `deflow degrade` was asked for.

    source: an image or a folder. target: an image or a folder to write. model: a file or a run folder; None:
    the default one. temperature: lowest and highest, drawn per image. reverse: restore degraded images
    instead. like: a degraded image or a folder, whose shift is used in place of the model's. compression:
    ``auto``: samples of 8 bits are JPEG compressed where the model's file records it; ``no``: never. tile:
    side in pixels; None: chosen by memory, 0: none. ext: ``auto`` or an image suffix. clip: the images of
    each folder are frames of one clip, which share component, temperature and noise level; their noise is
    correlated by ``temporal``. sheet: a PNG to write, of the first images at several strengths.
    """

    source: Path
    target: Path
    model: Path | None = None
    temperature: tuple[float, float] = (1.0, 1.0)
    samples: int = 1
    seed: int = 0
    reverse: bool = False
    like: Path | None = None
    compression: Literal["auto", "no"] = "auto"
    tile: int | None = None
    ext: str = "auto"
    skip_existing: bool = False
    device: str = "auto"
    clip: bool = False
    temporal: float = 0.0
    sheet: Path | None = None


@dataclass(frozen=True)
class DegradeRecord:
    """One image that was done. component: of the mixture, for each target. seconds: reading to writing."""

    source: Path
    targets: list[Path]
    temperature: float
    component: list[int]
    seconds: float


@dataclass(frozen=True)
class DegradeReport:
    """What was done: the model and how it was found; images done, skipped, and failed with the reason."""

    model: Path
    model_origin: str
    records: list[DegradeRecord] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)


@hears_remarks
def degrade(request: DegradeRequest, reporter: Reporter) -> DegradeReport:
    """Degrade (or restore) images to files. A file that fails is reported, and the others are done.

    The same request gives the same files, whatever the tile size and the other images in the folder. Raises
    DeflowError for a problem that concerns all images: no model, no images, no such device, a bad reference.
    """
    check_correlation(request.temporal)
    if request.sheet is not None:
        check_sheet(request.sheet)
    video, planned = None, []
    if is_video(request.source):
        video = _video(request)
    else:
        planned = plan_images(request.source, request.target, ext=request.ext, samples=request.samples)
    found = default_model(request.model)
    device = choose_device(request.device)
    if method_of_model(found.path) is not None:
        return _degrade_by_translator(request, found, planned, device, reporter)
    model, facts = load_model(found.path, device)
    reporter.note(f"model: {found.path} ({found.origin}), on {device}")
    translator = Translator(model, device, request.tile, GraphedFunction, available_memory(device))
    shift = _shift(request, model, translator, reporter)
    compression = _compression(request, facts, found.path, reporter)
    title = "restoring" if request.reverse else "degrading"
    if video is not None:
        render = partial(_render, request, translator, shift, compression)
        records = _degrade_video(video, request, shift, render, reporter, title)
        skipped = [] if records else [video.source]
        return DegradeReport(found.path, found.origin, records, skipped)
    deep: list[Path] = []
    process = partial(
        _process, request=request, translator=translator, shift=shift, compression=compression, deep=deep
    )
    if device.type == "cuda":
        done = run_images_overlapped(
            planned, _read, process, reporter, title=title, skip_existing=request.skip_existing
        )
    else:
        done = run_images(
            planned,
            lambda item, tell: process(item, _read(item), at_once)(),
            reporter,
            title=title,
            skip_existing=request.skip_existing,
        )
    if request.sheet is not None:
        render = partial(_render, request, translator, shift, compression)

        def crop(item: PlannedOutput, image: Image, strength: float) -> NDArray[Any]:
            return render(*_randomness(item, request), image, strength)

        write_strength_sheet(request.sheet, planned, crop, reporter)
    if deep:
        reporter.note(f"images of 16 bits: {len(deep)}; their samples are not JPEG compressed")
    return DegradeReport(found.path, found.origin, done.records, done.skipped, done.failed)


def _degrade_by_translator(
    request: DegradeRequest,
    found: FoundModel,
    planned: Sequence[PlannedOutput],
    device: torch.device,
    reporter: Reporter,
) -> DegradeReport:
    """Degrade by a network of another method. Raises ConfigError for what such a network cannot do."""
    if is_video(request.source):
        raise ConfigError(
            f"{request.source} is a video, and {found.path} is no DeFlow",
            next_step="take a folder of its frames",
        )
    refused = {
        "--reverse": request.reverse,
        "--like": request.like is not None,
        "--sheet": request.sheet is not None,
        "--temperature": request.temperature != (1.0, 1.0),
    }
    done = translate_images(
        found,
        planned,
        device,
        reporter,
        tile=request.tile,
        skip_existing=request.skip_existing,
        refused=refused,
    )
    records = [
        DegradeRecord(each.source, each.targets, 1.0, [0] * len(each.targets), each.seconds)
        for each in done.records
    ]
    return DegradeReport(found.path, found.origin, records, done.skipped, done.failed)


def _shift(
    request: DegradeRequest, model: DeFlow, translator: Translator, reporter: Reporter
) -> ShiftDistribution:
    """The shift of the model, or the one estimated from a reference."""
    if request.like is None:
        return ShiftDistribution(model.prior)
    files = list_images(request.like) if request.like.is_dir() else [request.like]
    if not files:
        raise DataError(f"{request.like}: no image found", next_step="pass a degraded image as --like")
    files = files[:: -(-len(files) // MOST_REFERENCES)]
    crops: list[list[Tensor]] = []
    for file in files:
        image = read_image(file)
        noise = ImageNoise(0, file.name)
        crops += translator.crop_latents(to_tensor(image.pixels), noise, _gray_levels(image))
    shift = shift_like(model.prior, crops)
    shares = ", ".join(f"{k}: {p:.2f}" for k, p in enumerate(shift.probabilities.tolist()))
    outcome = f"components {shares}" if model.prior.components > 1 else "its shift estimated anew"
    reporter.note(f"like {request.like}: {outcome}")
    return shift


def _compression(
    request: DegradeRequest, facts: dict[str, Any], path: Path, reporter: Reporter
) -> SampleCompression | None:
    """The last step of every sample, as the model's file records it; None: none."""
    if request.reverse or request.compression == "no":
        return None
    found = SampleCompression.recorded(facts, path)
    if found is not None:
        reporter.note(
            f"samples of 8 bits are JPEG compressed as the model's noisy images were: {found.folder.text}"
        )
    return found


def _gray_levels(image: Image) -> int:
    return 2**image.bits - 1


class _Read(NamedTuple):
    """An image, and when its reading began."""

    image: Image
    started: float


def _read(item: PlannedOutput) -> _Read:
    started = time.perf_counter()
    return _Read(read_image(item.source), started)


def _process(
    item: PlannedOutput,
    read: _Read,
    submit: Submit,
    *,
    request: DegradeRequest,
    translator: Translator,
    shift: ShiftDistribution,
    compression: SampleCompression | None,
    deep: list[Path],
) -> Callable[[], DegradeRecord]:
    """Translate an image and submit its writing. Raises DeflowError naming the file.

    deep: is given the images that are not compressed because they have 16 bits.
    """
    image, started = read
    check_sides(item.source, item.targets[0].suffix, *image.pixels.shape[:2])
    tensor = to_tensor(image.pixels, translator.device)
    key, noise = _randomness(item, request)
    temperature = _temperature(request, key)
    if request.reverse:
        if request.like:
            component = shift.likeliest
        else:
            component = translator.own_component(tensor, noise, _gray_levels(image))
        components = [component] * request.samples
    else:
        components = draw_components(shift, request.seed, key, request.samples)
    job = Job(shift, [noise], [components], [temperature], request.reverse, _gray_levels(image))
    if compression is not None and image.bits != 8:
        compression = None
        deep.append(item.source)
    draw = Draw(request.seed, key, temperature=temperature)
    written: list[float] = []
    write = partial(_write, item, image, compression, draw, written)
    groups: list[list[Wait]] = []
    group = max(1, OUTPUT_BUDGET // image.pixels.nbytes)
    for first in range(0, request.samples, group):
        for wait in groups[-2] if len(groups) > 1 else []:  # one group is written while one is computed
            wait()
        samples = range(first, min(first + group, request.samples))
        with naming(item.source, but=(DataError,)):
            outputs = sample_pixels(translator, tensor, job, samples, image)
        groups.append(
            [submit(partial(write, sample, pixels)) for sample, pixels in zip(samples, outputs, strict=True)]
        )

    def finish() -> DegradeRecord:
        for wait in (wait for waits in groups for wait in waits):
            wait()
        return DegradeRecord(item.source, list(item.targets), temperature, components, max(written) - started)

    return finish


def _video(request: DegradeRequest) -> VideoJob:
    if request.reverse or request.sheet is not None:
        name = "--reverse" if request.reverse else "--sheet"
        raise ConfigError(
            f"{name} is for images, but {request.source} is a video",
            next_step="take a folder of its frames",
        )
    return plan_video(request.source, request.target, samples=request.samples, ext=request.ext)


def _degrade_video(
    video: VideoJob,
    request: DegradeRequest,
    shift: ShiftDistribution,
    render: Callable[[str, ImageNoise, Image, float], NDArray[Any]],
    reporter: Reporter,
    title: str,
) -> list[DegradeRecord]:
    """Degrade the frames of a video as those of a clip; nothing where it is there and is to be skipped."""
    if request.skip_existing and video.target.exists():
        return []
    temperature = _temperature(request, video.key)

    def change(number: int, image: Image) -> NDArray[Any]:
        noise = ClipNoise(request.seed, video.key, video.frame_key(number), request.temporal)
        return render(video.key, noise, image, temperature)

    done = run_video(video, change, reporter, title=title)
    component = draw_components(shift, request.seed, video.key, 1)
    return [DegradeRecord(video.source, [video.target], temperature, component, done.seconds)]


def _temperature(request: DegradeRequest, key: str) -> float:
    """The temperature of an image or a clip, drawn from the range that was asked for."""
    low, high = request.temperature
    return low + (high - low) * float(stable_generator(request.seed, key, "temperature").random())


def _randomness(item: PlannedOutput, request: DegradeRequest) -> tuple[str, ImageNoise]:
    """What the draws of an image belong to, the image itself or the clip it is a frame of; and its noise."""
    if not request.clip:
        return item.key, ImageNoise(request.seed, item.key)
    clip = clip_of(item.key)
    return clip, ClipNoise(request.seed, clip, item.key, request.temporal)


def _render(
    request: DegradeRequest,
    translator: Translator,
    shift: ShiftDistribution,
    compression: SampleCompression | None,
    key: str,
    noise: ImageNoise,
    image: Image,
    strength: float,
) -> NDArray[Any]:
    """A crop of an image or a frame, degraded once at a strength. key: what its draws belong to."""
    components = draw_components(shift, request.seed, key, 1)
    job = Job(shift, [noise], [components], [strength], gray_levels=_gray_levels(image))
    pixels = sample_pixels(translator, to_tensor(image.pixels, translator.device), job, range(1), image)[0]
    if compression is not None and image.bits == 8:
        pixels = compression.pixels(pixels, Draw(request.seed, key, temperature=strength))
    return pixels


def _write(
    item: PlannedOutput,
    image: Image,
    compression: SampleCompression | None,
    draw: Draw,
    written: list[float],
    sample: int,
    pixels: NDArray[Any],
) -> None:
    """Compress and write a sample of an image, and say when it was done. draw: of its first sample."""
    if compression is not None:
        with naming(item.source):
            pixels = compression.pixels(pixels, replace(draw, sample=sample))
    write_image(item.targets[sample], Image(pixels, image.alpha, image.gray, image.icc, image.exif))
    written.append(time.perf_counter())
