"""Trainers: a data set that degrades while it is read, for BasicSR and traiNNer-redux.

Both import every file ``*_dataset.py`` of their data folder. One such file with two lines brings the data set
there:

    from deflow_cli.integrations.trainers import register_datasets
    register_datasets(model="runs/camera", temperature=(0.6, 1.2))

Its ``type`` in a configuration is ``DeflowDataset``. Pairs that `deflow make-pairs` writes beforehand train
faster.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from deflow_cli.arrays import Pixels
from deflow_cli.data.images.files import read_rgb8, to_pixels, to_tensor
from deflow_cli.data.images.listing import list_images
from deflow_cli.data.images.resize import downsample
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.integrations.strength import Strength, Temperature

DATASET_NAME = "DeflowDataset"
TRAINERS = ("basicsr", "traiNNer")  # packages with a registry of data sets, utils.registry


class TrainingPair(TypedDict):
    """What trainers expect of an item. lq, gt: 3 x H x W, float32 RGB in [0, 1], gt scale times as large."""

    lq: Tensor
    gt: Tensor
    lq_path: str
    gt_path: str


@dataclass(frozen=True)
class PairOptions:
    """What the data set needs of a trainer's options.

    folders: of clean images. scale: gt over lq. gt_size: side of the crops in training, px. phase: ``train``:
    crops and turns are drawn by torch's generator; others: whole images, always the same.
    """

    folders: Sequence[str]
    scale: int = 1
    gt_size: int | None = None
    phase: str = "train"
    use_hflip: bool = True
    use_rot: bool = True

    @classmethod
    def of(cls, options: Any) -> PairOptions:
        """From a dict (BasicSR) or a record (traiNNer-redux). Raises ConfigError for what is missing."""
        found = {name: _read(options, name) for name in ("scale", "gt_size", "phase", "use_hflip", "use_rot")}
        found = {name: value for name, value in found.items() if value is not None}
        folders = _read(options, "dataroot_gt")
        if not folders:
            raise ConfigError(f"{DATASET_NAME} needs dataroot_gt", next_step="name a folder of clean images")
        lq_size = _read(options, "lq_size")
        if "gt_size" not in found and lq_size is not None:
            found["gt_size"] = lq_size * found.get("scale", 1)
        return cls([folders] if isinstance(folders, str) else list(folders), **found)


class DegradingPairs(Dataset[TrainingPair]):
    """Pairs of clean crops and what they become: reduced by MATLAB's bicubic, then degraded by a model.

    Every number drawn is of torch's generator, which the workers of a DataLoader seed differently; outside
    training the noise is a function of the image. Raises DataError where there is no image.
    """

    def __init__(self, options: PairOptions, strength: Strength) -> None:
        self.options = options
        training = options.phase == "train"
        self.strength = strength if training or strength.seed is not None else _seeded(strength)
        self.paths = [path for folder in options.folders for path in list_images(Path(folder))]
        if not self.paths:
            raise DataError(f"{', '.join(options.folders)}: no image found", next_step="check dataroot_gt")
        if training and options.gt_size is None:
            raise ConfigError(f"{DATASET_NAME} needs gt_size", next_step="set gt_size, or lq_size")

    def __reduce__(self) -> tuple[type[DegradingPairs], tuple[PairOptions, Strength]]:
        return DegradingPairs, (self.options, self.strength)  # the classes of trainers are made at run time

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> TrainingPair:
        path = self.paths[index]
        pixels = self._cut(path, read_rgb8(path))
        small = downsample(pixels, self.options.scale) if self.options.scale > 1 else pixels
        lq = self.strength.degraded(to_tensor(small)[0])
        # to 8 bits, as files of pairs have them
        return {
            "lq": to_tensor(to_pixels(lq[None]))[0],
            "gt": to_tensor(pixels)[0],
            "lq_path": str(path),
            "gt_path": str(path),
        }

    def _cut(self, path: Path, pixels: Pixels) -> Pixels:
        """A random crop, turned, in training; else the image cut to a multiple of the scale."""
        options, (height, width) = self.options, pixels.shape[:2]
        if options.phase != "train":
            height, width = (side // options.scale * options.scale for side in (height, width))
            return np.ascontiguousarray(pixels[:height, :width])
        side = options.gt_size
        assert side is not None
        if min(height, width) < side:
            raise DataError(
                f"{path}: {width}x{height}, smaller than gt_size {side}", next_step="leave it out"
            )
        top, left = (int(torch.randint(length - side + 1, ())) for length in (height, width))
        crop = pixels[top : top + side, left : left + side]
        mirror, flip, turn = (bool(torch.randint(2, ())) for _ in range(3))
        crop = crop[:, ::-1] if mirror and options.use_hflip else crop
        crop = crop[::-1] if flip and options.use_rot else crop
        crop = crop.swapaxes(0, 1) if turn and options.use_rot else crop
        return np.ascontiguousarray(crop)


def register_datasets(
    model: str | Path | None = None,
    temperature: Temperature = 1.0,
    *,
    probability: float = 1.0,
    seed: int | None = None,
    device: str = "cpu",
) -> list[str]:
    """Register ``DeflowDataset`` with every trainer that is installed here; returns their packages.

    The arguments are ``Strength``'s; in BasicSR's configurations, whose keys are free, ``model``,
    ``temperature``, ``probability`` and ``seed`` of a data set take precedence. Raises ConfigError where no
    trainer is installed.
    """
    strength = Strength.of(model, temperature, probability, seed, device)
    found = [package for package in TRAINERS if importlib.util.find_spec(package) is not None]
    if not found:
        raise ConfigError(
            f"none of {', '.join(TRAINERS)} is installed here",
            next_step="run it in the trainer's environment",
        )
    for package in found:
        registry = importlib.import_module(f"{package}.utils.registry").DATASET_REGISTRY
        if DATASET_NAME not in registry:
            registry.register(_dataset_class(package, strength))
    return found


def _dataset_class(package: str, strength: Strength) -> type[DegradingPairs]:
    """The class that a trainer builds of its options, derived from its own base where it has one."""

    class DeflowDataset(DegradingPairs):
        def __init__(self, opt: Any) -> None:
            super().__init__(PairOptions.of(opt), _overridden(strength, opt))
            self.opt = opt  # which trainers read

    DeflowDataset.__module__ = __name__
    if package != "traiNNer":
        return DeflowDataset
    base = importlib.import_module("traiNNer.data.base_dataset").BaseDataset
    return type(DATASET_NAME, (DeflowDataset, base), {})


def _overridden(strength: Strength, options: Any) -> Strength:
    """The strength with what a data set's own options say."""
    if not isinstance(options, dict):
        return strength
    given = {
        name: options[name] for name in ("model", "temperature", "probability", "seed") if name in options
    }
    usual: dict[str, Any] = {
        "model": strength.model,
        "temperature": (strength.low, strength.high),
        "probability": strength.probability,
        "seed": strength.seed,
    }
    return Strength.of(**(usual | given), device=strength.device)


def _seeded(strength: Strength) -> Strength:
    return Strength(strength.model, strength.low, strength.high, strength.probability, 0, strength.device)


def _read(options: Any, name: str) -> Any:
    return options.get(name) if isinstance(options, dict) else getattr(options, name, None)
