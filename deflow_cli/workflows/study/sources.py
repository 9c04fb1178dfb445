"""Sources: the outputs of the methods and what they are judged against, matched by name and cut to crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deflow_cli.arrays import Pixels
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.images.folders import inspect_size
from deflow_cli.data.images.listing import list_images, name_some
from deflow_cli.data.images.resize import rescale
from deflow_cli.data.reference_matching import (
    MethodImages,
    match_references,
    missing_names,
    scaled_partners,
)
from deflow_cli.errors import DataError

Size = tuple[int, int]


@dataclass(frozen=True)
class StudySources:
    """Files by method and image name. anchors: references, or low-resolution sources of outputs ``scale``
    times larger; sizes: of the outputs."""

    methods: tuple[str, ...]
    folders: tuple[Path, ...]
    outputs: tuple[dict[str, Path], ...]
    anchors: dict[str, Path]
    sizes: dict[str, Size]
    scale: int
    is_reference: bool

    def pictures(self, image: str) -> list[Pixels]:
        """The image as each method made it, then the anchor at the same size."""
        made = [read_rgb8(outputs[image]) for outputs in self.outputs]
        anchor = read_rgb8(self.anchors[image])
        if not self.is_reference:
            enlarged = rescale(anchor, *made[0].shape[:2])
            anchor = np.clip(np.floor(enlarged + 0.5), 0, 255).astype(np.uint8)
        return [*made, anchor]


def match_sources(folders: Sequence[Path], reference: Path | None, low: Path | None) -> StudySources:
    """Match every output with its namesakes. reference, low: a folder, one of the two.

    Raises DataError that lists names missing in a folder, and sizes that differ.
    """
    methods = match_references(tuple(folders), reference)
    lacking = missing_names(methods)
    if lacking:
        raise DataError(
            f"methods hold different images: {'; '.join(lacking)}",
            next_step="add what is missing, or remove what the others lack",
        )
    sizes = _sizes(methods)
    scale = 1
    if reference is not None:
        anchors = {image.name: image.reference for image in methods[0].images if image.reference is not None}
    else:
        assert low is not None
        anchors = _low_partners(low, sizes)
        scale = _scale(anchors, sizes, methods[0])
    return StudySources(
        tuple(method.name for method in methods),
        tuple(method.source for method in methods),
        tuple({image.name: image.path for image in method.images} for method in methods),
        anchors,
        sizes,
        scale,
        reference is not None,
    )


def _sizes(methods: Sequence[MethodImages]) -> dict[str, Size]:
    """Sizes of the images; DataError names those that differ between methods, or cannot be read."""
    sizes: dict[str, Size] = {}
    wrong = []
    for method in methods:
        for image in method.images:
            width, height = image.size or inspect_size(image.path)
            first = sizes.setdefault(image.name, (width, height))
            if first != (width, height):
                wrong.append(f"{image.path} ({width}x{height}, not {first[0]}x{first[1]})")
    if wrong:
        raise DataError(
            f"{len(wrong)} images have another size than in {methods[0].source}: {name_some(wrong)}",
            next_step="compare outputs of one size",
        )
    return sizes


def _low_partners(low: Path, sizes: dict[str, Size]) -> dict[str, Path]:
    """The low-resolution source of every image, a scale at the end of its name aside."""
    files = {
        path.relative_to(low).with_suffix("").as_posix(): path for path in list_images(low, aliases=True)
    }
    renamed = {theirs: ours for ours, theirs in scaled_partners(files.keys(), sizes.keys()).items()}
    renamed |= {ours: theirs for ours, theirs in scaled_partners(sizes.keys(), files.keys()).items()}
    found = {name: files.get(name) or files.get(renamed.get(name, "")) for name in sizes}
    missing = sorted(name for name, path in found.items() if path is None)
    if missing:
        raise DataError(
            f"{low}: {len(missing)} of {len(sizes)} images have no source there: {name_some(missing)}",
            next_step="pass the folder that the outputs were made from as --lq",
        )
    return {name: path for name, path in found.items() if path is not None}


def _scale(anchors: dict[str, Path], sizes: dict[str, Size], method: MethodImages) -> int:
    scales: dict[int, str] = {}
    for name, path in anchors.items():
        (low_width, low_height), (width, height) = inspect_size(path), sizes[name]
        scale = max(1, round(width / low_width))
        if (low_width * scale, low_height * scale) != (width, height):
            raise DataError(
                f"{path} is {low_width}x{low_height}, its output in {method.source} {width}x{height}: no"
                " whole scale",
                next_step="pass the images that the outputs were made from as --lq",
            )
        scales.setdefault(scale, name)
    if len(scales) > 1:
        listed = ", ".join(f"{scale} of {name}" for scale, name in sorted(scales.items()))
        raise DataError(f"outputs of several scales: {listed}", next_step="make a study of each scale")
    return next(iter(scales))
