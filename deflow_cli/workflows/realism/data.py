"""Realism data: folders of degraded images as lists with their samples and their clean partners."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deflow_cli.arrays import Pixels
from deflow_cli.data.folder_sample import MOST_IMAGES, centre, evenly_spread
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.images.folders import inspect_size
from deflow_cli.data.images.listing import list_images
from deflow_cli.errors import DataError
from deflow_cli.metrics.noise.residual import low_pass_psnr
from deflow_cli.runtime.progress import Reporter

MOST_SAMPLES = 16  # of one image
SMALLEST_SIDE = 64
PARTNER_PSNR = 15.0  # dB after a low-pass; below, two pictures do not show the same scene
_SAMPLE = re.compile(r"_s\d{2,}$")
_CERTAIN_SAMPLE = re.compile(r"_s\d{2}$")


@dataclass(frozen=True)
class NoisyImage:
    """Degradations of one scene, H x W x 3 each, and their clean picture where it is known."""

    name: str
    samples: tuple[Pixels, ...]
    clean: Pixels | None = None


@dataclass(frozen=True)
class NoisySet:
    """A folder's images. total: how many scenes the folder holds, of which ``images`` may be a selection."""

    name: str
    images: tuple[NoisyImage, ...]
    total: int

    @property
    def pictures(self) -> list[Pixels]:
        """One degradation of each scene."""
        return [image.samples[0] for image in self.images]

    @property
    def with_clean(self) -> list[NoisyImage]:
        return [image for image in self.images if image.clean is not None]


def clean_index(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Stem -> the files of that name in the clean folders. Raises DataError for an empty one."""
    index: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        files = list_images(folder, aliases=True)  # a partner is found by its name
        if not files:
            raise DataError(f"{folder}: no image found", next_step="pass a folder of images as --clean")
        for file in files:
            index[file.stem].append(file)
    return index


def load_set(
    folder: Path, cleans: Mapping[str, list[Path]], reporter: Reporter, *, samples: bool = False
) -> NoisySet:
    """Read a folder: at most 200 scenes, windows of at most 768 px, with clean partners found by name.

    samples: files ``NAME_s01``, ``NAME_s02`` ... are degradations of one scene NAME. A partner has the
    scene's stem and the picture's size, and shows the same after a low-pass. Pictures that cannot be read or
    are below 64 px are left out with a warning. Raises DataError when none is left.
    """
    files = list_images(folder) if folder.is_dir() else [folder]
    scenes = _group(files, cleans, samples)
    names = list(scenes)
    chosen = evenly_spread(names, MOST_IMAGES)
    reporter.start(f"reading {folder.name}", len(chosen))
    images: list[NoisyImage] = []
    for done, name in enumerate(chosen, start=1):
        image = _load(name, scenes[name], cleans, reporter)
        if image is not None:
            images.append(image)
        reporter.update(done)
    reporter.finish()
    if not images:
        raise DataError(
            f"{folder}: no image of at least {SMALLEST_SIDE} px that can be read",
            next_step="pass a folder of degraded images",
        )
    return NoisySet(folder.name or str(folder), tuple(images), len(names))


def _group(files: Sequence[Path], cleans: Mapping[str, list[Path]], samples: bool) -> dict[str, list[Path]]:
    """Scene -> its files; without ``samples`` every file is a scene by itself.

    Crops of data sets are named like samples (NAME_s001): what has a clean partner under its full name is a
    scene, and without any partner only two digits make a sample.
    """
    scenes: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        stem = file.stem
        if samples and stem not in cleans:
            shorter = _SAMPLE.sub("", stem)
            stem = shorter if shorter in cleans else _CERTAIN_SAMPLE.sub("", stem)
        scenes[(file.parent / stem).as_posix()].append(file)
    return dict(scenes)


def _load(
    key: str, files: Sequence[Path], cleans: Mapping[str, list[Path]], reporter: Reporter
) -> NoisyImage | None:
    samples: list[Pixels] = []
    for file in files[:MOST_SAMPLES]:
        try:
            pixels = centre(read_rgb8(file))
        except DataError as error:
            reporter.warn(f"{error}; left out")
            continue
        if min(pixels.shape[:2]) < SMALLEST_SIDE:
            reporter.warn(
                f"{file}: {pixels.shape[1]}x{pixels.shape[0]} is below {SMALLEST_SIDE} px; left out"
            )
        elif samples and pixels.shape != samples[0].shape:
            reporter.warn(f"{file}: not of the size of {files[0].name}; left out")
        else:
            samples.append(pixels)
    if not samples:
        return None
    name = Path(key).name
    return NoisyImage(name, tuple(samples), _partner(name, files[0], samples[0], cleans, reporter))


def _partner(
    name: str, file: Path, pixels: Pixels, cleans: Mapping[str, list[Path]], reporter: Reporter
) -> Pixels | None:
    """The clean picture of a scene: of its name and size, the one that shows the same; None without any."""
    best, found = -np.inf, None
    candidates = cleans.get(name, [])
    for candidate in candidates:
        if candidate.resolve() == file.resolve() or inspect_size(candidate) != inspect_size(file):
            continue
        clean = centre(read_rgb8(candidate))
        likeness = low_pass_psnr(clean / 255.0, pixels / 255.0)
        if likeness > best:
            best, found = likeness, clean
    if found is not None and best < PARTNER_PSNR:
        reporter.warn(f"{file}: does not show what its partner of the same name does; taken as unpaired")
        return None
    if found is None and candidates:
        reporter.warn(f"{file}: its partner {candidates[0]} has another size; taken as unpaired")
    return found
