"""Translated: images through a network of DSGAN or CycleGAN, which knows one degradation of each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from deflow_cli.checkpoints.registry import FoundModel
from deflow_cli.checkpoints.translation.files import load_translator
from deflow_cli.data.images.encoding import check_sides
from deflow_cli.data.images.files import Image, read_image, to_pixels, to_tensor, write_image
from deflow_cli.data.images.outputs import PlannedOutput
from deflow_cli.degraders.translator.tiled import ImageTranslator
from deflow_cli.errors import ConfigError, DataError, naming
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.image_jobs import Done, Tell, run_images


@dataclass(frozen=True)
class TranslatedImage:
    """An image that was done. seconds: reading to writing."""

    source: Path
    targets: list[Path]
    seconds: float


def translate_images(
    found: FoundModel,
    planned: Sequence[PlannedOutput],
    device: torch.device,
    reporter: Reporter,
    *,
    tile: int | None,
    skip_existing: bool,
    refused: Mapping[str, bool],
) -> Done[TranslatedImage]:
    """Degrade images to files of their size; all samples of an image are equal.

    refused: options that only a DeFlow has, and whether they were given. Raises ConfigError for these, and
    for a network that makes pictures smaller itself.
    """
    loaded = load_translator(found.path, device)
    method, scale = loaded.method, loaded.generator.scale
    if scale > 1:
        raise ConfigError(
            f"{found.path}: a model of {method}, which makes images {scale} times smaller itself; here they "
            "keep their size",
            next_step=f"use deflow make-pairs HR OUT --degrader {method} --scale {scale}",
        )
    for option, given in refused.items():
        if given:
            raise ConfigError(f"{option} is nothing to a model of {method}", next_step="leave it out")
    if any(len(item.targets) > 1 for item in planned):
        reporter.warn(f"a model of {method} is not random: all samples of an image are equal")
    reporter.note(f"model: {found.path} ({method}, {found.origin}), on {device}")
    translator = ImageTranslator(loaded.generator, device, tile)

    def one(item: PlannedOutput, _: Tell) -> TranslatedImage:
        started = time.perf_counter()
        image = read_image(item.source)
        check_sides(item.source, item.targets[0].suffix, *image.pixels.shape[:2])
        with naming(item.source, but=(DataError,)):
            pixels = to_pixels(translator(to_tensor(image.pixels)), image.bits)
        for target in item.targets:
            write_image(target, Image(pixels, image.alpha, image.gray, image.icc, image.exif))
        return TranslatedImage(item.source, list(item.targets), time.perf_counter() - started)

    return run_images(planned, one, reporter, title="degrading", skip_existing=skip_existing)
