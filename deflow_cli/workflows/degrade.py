"""Degrade (or restore) the images of a folder by a fitted flow, and write the results to files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.checkpoints.format import load_model
from deflow_cli.checkpoints.registry import FoundModel, default_model, method_of_model
from deflow_cli.checkpoints.translation import load_translator
from deflow_cli.data.images.encoding import check_sides
from deflow_cli.data.images.files import Image, quantised, read_image, to_pixels, to_tensor, write_image
from deflow_cli.data.images.listing import list_images
from deflow_cli.data.images.outputs import PlannedOutput
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.flow.compression import SampleCompression
from deflow_cli.errors import ConfigError, DataError, naming
from deflow_cli.inference.positional_noise import stable_generator
from deflow_cli.inference.sampling import ImageNoise, Job, Translator, draw_components
from deflow_cli.inference.translating import ImageTranslator
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution, shift_like
from deflow_cli.runtime.cuda_graphs import GraphedFunction
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.image_jobs import (
    Submit,
    Tell,
    Wait,
    at_once,
    plan_images,
    run_images,
    run_images_overlapped,
)

OUTPUT_BUDGET = 384 << 20  # bytes of finished samples that are held in memory before they are written
MOST_REFERENCES = 16  # images of a reference folder that its shift is estimated from


@dataclass(frozen=True)
class DegradeRequest:
    """What `deflow degrade` was asked for.

    source: an image or a folder. target: an image or a folder to write. model: a file or a run folder; None:
    the default one. temperature: lowest and highest, drawn per image. reverse: restore degraded images
    instead. like: a degraded image or a folder, whose shift is used in place of the model's. compression:
    ``auto``: samples of 8 bits are JPEG compressed where the model's file records it; ``no``: never. tile:
    side in pixels; None: chosen by memory, 0: none. ext: ``auto`` or an image suffix.
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
    planned = plan_images(request.source, request.target, ext=request.ext, samples=request.samples)
    found = default_model(request.model)
    device = choose_device(request.device)
    if method_of_model(found.path) is not None:
        return _degrade_by_translator(request, found, planned, device, reporter)
    model, facts = load_model(found.path, device)
    reporter.note(f"model: {found.path} ({found.origin}), on {device}")
    translator = Translator(model, device, request.tile, GraphedFunction)
    shift = _shift(request, model, translator, reporter)
    compression = _compression(request, facts, found.path, reporter)
    deep: list[Path] = []
    process = partial(
        _process, request=request, translator=translator, shift=shift, compression=compression, deep=deep
    )
    title = "restoring" if request.reverse else "degrading"
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
    """Degrade by a network of another method, which gives each image one degradation of its size.

    Raises ConfigError for what such a network cannot do.
    """
    loaded = load_translator(found.path, device)
    method, scale = loaded.method, loaded.generator.scale
    if scale > 1:
        raise ConfigError(
            f"{found.path}: a model of {method}, which makes images {scale} times smaller itself; here they "
            "keep their size",
            next_step=f"use deflow make-pairs HR OUT --degrader {method} --scale {scale}",
        )
    for option, given in (("--reverse", request.reverse), ("--like", request.like is not None)):
        if given:
            raise ConfigError(f"{option} is nothing to a model of {method}", next_step="leave it out")
    if request.samples > 1 or request.temperature != (1.0, 1.0):
        reporter.warn(f"a model of {method} is not random: all samples are equal, at any temperature")
    reporter.note(f"model: {found.path} ({method}, {found.origin}), on {device}")
    translator = ImageTranslator(loaded.generator, device, request.tile)

    def one(item: PlannedOutput, _: Tell) -> DegradeRecord:
        image, started = _read(item)
        check_sides(item.source, item.targets[0].suffix, *image.pixels.shape[:2])
        with naming(item.source, but=(DataError,)):
            pixels = to_pixels(translator(to_tensor(image.pixels)), image.bits)
        for target in item.targets:
            write_image(target, Image(pixels, image.alpha, image.gray, image.icc, image.exif))
        seconds = time.perf_counter() - started
        return DegradeRecord(item.source, list(item.targets), 1.0, [0] * len(item.targets), seconds)

    done = run_images(planned, one, reporter, title="degrading", skip_existing=request.skip_existing)
    return DegradeReport(found.path, found.origin, done.records, done.skipped, done.failed)


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
    noise = ImageNoise(request.seed, item.key)
    low, high = request.temperature
    temperature = low + (high - low) * stable_generator(request.seed, item.key, "temperature").random()
    if request.reverse:
        if request.like:
            component = shift.likeliest
        else:
            component = translator.own_component(tensor, noise, _gray_levels(image))
        components = [component] * request.samples
    else:
        components = draw_components(shift, request.seed, item.key, request.samples)
    job = Job(shift, [noise], [components], [temperature], request.reverse, _gray_levels(image))
    if compression is not None and image.bits != 8:
        compression = None
        deep.append(item.source)
    draw = Draw(request.seed, item.key, temperature=temperature)
    written: list[float] = []
    write = partial(_write, item, image, compression, draw, written)
    groups: list[list[Wait]] = []
    group = max(1, OUTPUT_BUDGET // image.pixels.nbytes)
    for first in range(0, request.samples, group):
        for wait in groups[-2] if len(groups) > 1 else []:  # one group is written while one is computed
            wait()
        samples = range(first, min(first + group, request.samples))
        with naming(item.source, but=(DataError,)):
            outputs = _translate(translator, tensor, job, samples, image)
        groups.append(
            [submit(partial(write, sample, pixels)) for sample, pixels in zip(samples, outputs, strict=True)]
        )

    def finish() -> DegradeRecord:
        for wait in (wait for waits in groups for wait in waits):
            wait()
        return DegradeRecord(item.source, list(item.targets), temperature, components, max(written) - started)

    return finish


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


def _translate(
    translator: Translator, tensor: Tensor, job: Job, samples: Sequence[int], image: Image
) -> list[NDArray[Any]]:
    """The pixels of each sample, H x W x 3, integers of the image's bit depth."""
    if translator.device.type == "cuda":
        return _translate_on_device(translator, tensor, job, samples, image)
    outputs = {sample: np.empty_like(image.pixels) for sample in samples}

    def write(sample: int, window: Window, piece: Tensor) -> None:
        outputs[sample][window.slices] = to_pixels(piece, image.bits)

    translator.translate(tensor, job, samples, write)
    return [outputs[sample] for sample in samples]


def _translate_on_device(
    translator: Translator, tensor: Tensor, job: Job, samples: Sequence[int], image: Image
) -> list[NDArray[Any]]:
    """``_translate`` with whole pictures on the device, which the host waits for once."""
    device, dtype = translator.device, torch.uint16 if image.bits == 16 else torch.uint8
    outputs = {sample: torch.empty(image.pixels.shape, dtype=dtype, device=device) for sample in samples}

    def write(sample: int, window: Window, piece: Tensor) -> None:
        outputs[sample][window.slices] = quantised(piece, image.bits)

    translator.translate(tensor, job, samples, write)
    pinned = device.type == "cuda"
    copies = []
    for sample in samples:
        copy = torch.empty(image.pixels.shape, dtype=dtype, pin_memory=pinned)
        copies.append(copy.copy_(outputs.pop(sample), non_blocking=pinned))
    if pinned:
        torch.cuda.current_stream(device).synchronize()
    return [copy.numpy() for copy in copies]
