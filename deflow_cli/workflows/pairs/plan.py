"""Plan of a data set: each name, crop, temperature and kernel, before anything is made. And its manifest."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from deflow_cli import __version__
from deflow_cli.arrays import Window
from deflow_cli.data.blur.kernels import SAMPLINGS, BlurKernel, KernelSampling
from deflow_cli.data.crops import check_crop, crop_windows
from deflow_cli.data.images.resize import RULES, Rule
from deflow_cli.data.pairs.formats import FORMATS, PairFormat, pair_name
from deflow_cli.data.pairs.records import PairSlot
from deflow_cli.degraders.base import Draw
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.inference.positional_noise import stable_generator
from deflow_cli.paths import is_below
from deflow_cli.texts import json_text, readable
from deflow_cli.workflows.pairs.sources import LEAST_LQ_SIDE, CleanImage, CleanImages

SCALES = (1, 2, 3, 4, 8)
MANIFEST_KIND, VERSION = "deflow-pairs", 1
_COMPARED = {
    "device": "the device",
    "recipe": "the recipe",
    "degrader": "the degrader",
    "kernels": "the kernels",
    "images": "the images of HR",
    "left_out": "the images of HR that are left out",
    "doubtful": "the images of HR that are doubtful",
}
LIBRARIES = {  # what the bits depend on
    "torch": torch.__version__,
    "numpy": np.__version__,
    "opencv": cv2.__version__,
}


@dataclass(frozen=True)
class PairSettings:
    """How pairs are made, apart from the degrader.

    crop: side in px of the sub-images that the large image is cut into, one every ``stride`` px (None: half
    the crop); None: whole images. temperature: lowest and highest, drawn per image and variant. resize: the
    rule of downsampling (``data.images.resize``). kernel_sampling: how a blurred picture is downsampled
    (``data.blur.kernels``).
    """

    scale: int = 4
    crop: int | None = None
    stride: int | None = None
    variants: int = 1
    temperature: tuple[float, float] = (1.0, 1.0)
    resize: Rule = "matlab"
    kernel_sampling: KernelSampling = "bicubic"
    format: PairFormat = "folders"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("scale", self.scale, SCALES),
            ("resize rule", self.resize, RULES),
            ("kernel sampling", self.kernel_sampling, SAMPLINGS),
            ("format", self.format, FORMATS),
        ):
            if value not in known:
                names = ", ".join(str(item) for item in known)
                raise ConfigError(f"{name} {value!r} is unknown", next_step=f"use one of {names}")
        if self.variants < 1:
            raise ConfigError(f"{self.variants} variants", next_step="use --variants 1 or more")
        low, high = self.temperature
        if not 0 <= low <= high < float("inf"):
            raise ConfigError(f"temperature {low:g} to {high:g}", next_step="write 0.8, or 0.6:1.2")
        if self.crop is not None:
            check_crop(self.crop, self.step, self.scale)
        elif self.stride is not None:
            raise ConfigError("a stride without a crop", next_step="add --crop 480, or leave out --stride")

    @property
    def step(self) -> int:
        """The stride in use, a multiple of the scale."""
        assert self.crop is not None
        return self.stride or max(self.scale, self.crop // 2 // self.scale * self.scale)

    @property
    def least_side(self) -> int:
        """Smallest side of a large image that can be used, in px."""
        return max(self.crop or 0, LEAST_LQ_SIDE * self.scale)


@dataclass(frozen=True)
class PlannedImage:
    """One degradation of one image, from which one or more pairs are cut.

    boxes: where the pairs lie in the large image, in the order of ``slots``. kernel: its index, None without
    kernels.
    """

    image: int
    draw: Draw
    kernel: int | None
    slots: tuple[PairSlot, ...]
    boxes: tuple[Window, ...]

    def lacks(self, keys: Collection[str]) -> bool:
        """Whether any of its pairs is among some that are missing."""
        return any(slot.key in keys for slot in self.slots)


def plan_pairs(
    sources: CleanImages, settings: PairSettings, kernels: Sequence[BlurKernel]
) -> list[PlannedImage]:
    """Plan all pairs, in the order of their names.

    The draws of an image depend on the seed and the image's key alone, not on the other images.
    """
    planned = []
    boxes_of = [_boxes(source, settings) for source in sources.images]
    crop_digits = len(str(max(len(boxes) for boxes in boxes_of)))
    for index, (source, boxes) in enumerate(zip(sources.images, boxes_of, strict=True)):
        for variant in range(settings.variants):
            draw = _draw(source, settings, variant)
            kernel = None
            if kernels:
                generator = stable_generator(settings.seed, source.key, "kernel", variant)
                kernel = int(generator.integers(len(kernels)))
            drawn = kernels[kernel].file if kernel is not None else None
            slots = []
            for number, box in enumerate(boxes):
                key = pair_name(
                    index,
                    variant if settings.variants > 1 else None,
                    number if settings.crop is not None else None,
                    digits=(len(str(settings.variants)), crop_digits),
                )
                row = _row(source, settings.scale, draw, drawn, box)
                small = box.divided(settings.scale)
                slots.append(PairSlot(key, index, (box.height, box.width), (small.height, small.width), row))
            planned.append(PlannedImage(index, draw, kernel, tuple(slots), tuple(boxes)))
    return planned


def _boxes(source: CleanImage, settings: PairSettings) -> list[Window]:
    scale = settings.scale
    height, width = source.height // scale * scale, source.width // scale * scale
    if settings.crop is None:
        return [Window(0, 0, height, width)]
    return crop_windows(height, width, settings.crop, settings.step)


def _draw(source: CleanImage, settings: PairSettings, variant: int) -> Draw:
    low, high = settings.temperature
    generator = stable_generator(settings.seed, source.key, "temperature", variant)
    return Draw(settings.seed, source.key, variant, low + (high - low) * float(generator.random()))


def _row(source: CleanImage, scale: int, draw: Draw, kernel: str | None, box: Window) -> dict[str, Any]:
    """Provenance of a pair. crop_box: left, top, right, bottom in the source."""
    return {
        "scale": scale,
        "seed": draw.seed,
        "temperature": draw.temperature,
        "variant": draw.sample + 1,
        "source": readable(source.key),  # loaders of data sets refuse what is not UTF-8
        "source_sha256": source.sha256,
        "crop_box": [box.left, box.top, box.left + box.width, box.top + box.height],
        **({} if kernel is None else {"kernel": kernel}),
    }


# -- the manifest ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Manifest:
    """Everything that a data set is a function of.

    degrader, kernels: JSON-ready facts. device: cpu or cuda.
    """

    settings: PairSettings
    degrader: Mapping[str, Any]
    kernels: Sequence[Mapping[str, str]]
    device: str
    sources: CleanImages
    pairs: int

    def as_dict(self) -> dict[str, Any]:
        recipe = {**asdict(self.settings), "temperature": list(self.settings.temperature)}
        return {
            "kind": MANIFEST_KIND,
            "version": VERSION,
            "deflow": __version__,
            "libraries": dict(LIBRARIES),
            "device": self.device,
            "recipe": recipe,
            "degrader": dict(self.degrader),
            "kernels": [dict(kernel) for kernel in self.kernels],
            "pairs": self.pairs,
            "images": [asdict(image) for image in self.sources.images],
            "left_out": [list(item) for item in self.sources.left_out],
            "doubtful": [list(item) for item in self.sources.doubtful],
        }

    def text(self) -> str:
        return json_text(self.as_dict(), indent=1) + "\n"


def kernel_facts(kernels: Sequence[BlurKernel]) -> list[dict[str, str]]:
    return [{"file": kernel.file, "sha256": kernel.sha256} for kernel in kernels]


def read_manifest(path: Path, root: Path) -> tuple[Manifest, dict[str, Any]]:
    """A manifest of images below ``root``, and its content as written.

    Raises DataError for another file, and for one that names an image outside ``root``.
    """
    content = load_content(path)
    try:
        recipe = dict(content["recipe"])
        low, high = recipe.pop("temperature")
        sources = CleanImages(
            root,
            tuple(CleanImage(**image) for image in content["images"]),
            tuple((str(key), str(reason)) for key, reason in content["left_out"]),
            tuple((str(key), str(reason)) for key, reason in content["doubtful"]),
        )
        manifest = Manifest(
            PairSettings(temperature=(low, high), **recipe),
            content["degrader"],
            content["kernels"],
            content["device"],
            sources,
            int(content["pairs"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not a manifest that this deflow reads ({error})",
            next_step="use the deflow that wrote it",
        ) from error
    outside = [image.key for image in sources.images if not is_below(image.key)]
    if outside:
        raise DataError(
            f"{path}: names an image outside the folder: {outside[0]!r}",
            next_step="take the manifest from one you trust",
        )
    return manifest, content


def load_content(path: Path) -> dict[str, Any]:
    """The JSON of a manifest. Raises DataError if it cannot be read or is of another kind."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error})", next_step="pass a data set's deflow.json"
        ) from error
    if not isinstance(content, dict) or (content.get("kind"), content.get("version")) != (
        MANIFEST_KIND,
        VERSION,
    ):
        raise DataError(
            f"{path}: not a manifest of pairs (kind {MANIFEST_KIND}, version {VERSION})",
            next_step="pass a data set's deflow.json",
        )
    return content


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The differences between two manifests, in words; the versions of libraries come last."""
    found = []
    for key in (*_COMPARED, "deflow", "libraries"):
        there, here = theirs.get(key), ours.get(key)
        if there == here:
            continue
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            if there.get("name") != here.get("name"):  # two degraders: their options cannot be compared
                there, here = ({key: facts.get("name")} for facts in (there, here))
            names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
            found += [
                f"{name} {_shown(there.get(name))} there, now {_shown(here.get(name))}" for name in names
            ]
        elif isinstance(there, list):
            found.append(_COMPARED[key])
        else:
            found.append(f"{key} {_shown(there)} there, now {_shown(here)}")
    return found


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
