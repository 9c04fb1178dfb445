"""Miniature: a challenge of packaged photographs, laid out as the archives are, to try an experiment on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from deflow_cli.arrays import Pixels
from deflow_cli.data.camera_noise import camera_noise
from deflow_cli.data.images.files import Image, read_rgb8, write_image
from deflow_cli.data.images.resize import downsample
from deflow_cli.data.photos import packaged_photos
from deflow_cli.errors import DataError
from deflow_cli.runtime.seeding import derived_seed
from deflow_cli.workflows.reproduce.experiments import SR_SCALE, Experiment

TRUTHS = 4  # photographs that are kept apart for the validation
OTHERS_SHOWN = 4  # clean photographs of other scenes, where an experiment may have them
NOISE = 6.0  # grey levels of the miniature's noise, white, over that of the camera


def write_miniature(data: Path, experiment: Experiment, seed: int = 0) -> None:
    """Lay out the packaged photographs as an experiment's archives, degraded by a seeded recipe.

    Half of them are clean. The other half gets a camera's noise and white noise at full size, as the
    challenges degrade their training images, but for some: those are made small by `SR_SCALE`, then degraded,
    and are the validation. Raises DataError for a folder that holds something already.
    """
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise DataError(
            f"{data}: holds something already", next_step="pass a new folder, or leave --miniature out"
        )
    names = {part.role: part.names[0] for part in experiment.parts}
    clean, other = packaged_photos()
    truths = other[:: len(other) // TRUTHS][:TRUTHS]
    noisy = [path for path in other if path not in truths]
    if "clean" in names:
        for path in clean:
            _copy(path, data / names["clean"])
    if "other_clean" in names:
        for path in clean[:OTHERS_SHOWN]:
            _copy(path, data / names["other_clean"])
        clean = clean[OTHERS_SHOWN:]
    for path in noisy if "clean" in names else (*clean, *noisy):
        _write(data / names["noisy"], path, degraded(read_rgb8(path), path.name, seed))
    for path in truths:
        pixels = read_rgb8(path)
        height, width = (side // SR_SCALE * SR_SCALE for side in pixels.shape[:2])
        pixels = pixels[:height, :width]
        if "valid_truth" in names:
            _write(data / names["valid_truth"], path, pixels)
        small = downsample(pixels, SR_SCALE, "deflow")
        _write(data / names["valid_input"], path, degraded(small, path.name, seed))


def degraded(pixels: Pixels, name: str, seed: int) -> Pixels:
    """The miniature's degradation of an image: a camera's noise, then white noise."""
    random = np.random.default_rng(derived_seed(seed, "miniature", name))
    noisy = camera_noise(pixels, random).astype(np.float64)
    noisy += NOISE * random.standard_normal(pixels.shape)
    return (noisy + 0.5).clip(0, 255).astype(np.uint8)


def _copy(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / path.name)


def _write(folder: Path, path: Path, pixels: Pixels) -> None:
    write_image(folder / path.name, Image(pixels))
