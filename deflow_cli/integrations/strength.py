"""Strength: how strongly, how often and by which model pictures are degraded inside another program."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deflow_cli.errors import ConfigError
from deflow_cli.inference.degradation_model import DegradationModel, draw_seed, image_key
from deflow_cli.inference.positional_noise import stable_generator
from deflow_cli.workflows.api import load_model

Temperature = float | tuple[float, float] | Sequence[float]
"""Of all pictures, or lowest and highest, between which each picture's is drawn."""

_models: dict[tuple[int, str, str], DegradationModel] = {}
_loading = threading.Lock()
_computing = threading.Lock()


def _renew_locks() -> None:
    """In a process that was forked while another thread held a lock nobody would ever release it."""
    global _loading, _computing
    _loading, _computing = threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_renew_locks)


def shared_model(path: str, device: str) -> DegradationModel:
    """The model of this process, loaded once for all its threads. path: empty: the default model.

    A process that was forked after loading loads its own.
    """
    key = (os.getpid(), path, device)
    with _loading:
        if key not in _models:
            _models[key] = load_model(path or None, device)
        return _models[key]


@dataclass(frozen=True)
class Strength:
    """How pictures are degraded.

    model: a file, a run folder or a name on the Hub; empty: the newest fit here, else the embedded model.
    low, high: bounds of the temperature. probability: of a picture being degraded at all. seed: with one,
    what a picture becomes is a function of the seed and its pixels; None: other noise every time, by torch's
    generator, which the workers of a DataLoader seed differently from each other and in every epoch.
    """

    model: str = ""
    low: float = 1.0
    high: float = 1.0
    probability: float = 1.0
    seed: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high < float("inf"):
            raise ConfigError(
                f"temperature is {self.low:g} to {self.high:g}",
                next_step="use 0.8, or a range such as 0.6, 1.2",
            )
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"probability is {self.probability:g}", next_step="use 0 to 1")
        if self.seed is not None and self.seed < 0:
            raise ConfigError(f"seed is {self.seed}", next_step="use 0 or more")

    @classmethod
    def of(
        cls,
        model: str | Path | None = None,
        temperature: Temperature = 1.0,
        probability: float = 1.0,
        seed: int | None = None,
        device: str = "cpu",
    ) -> Strength:
        """The same from what users write. Raises ConfigError for values that cannot be."""
        bounds = [temperature] if isinstance(temperature, int | float) else list(temperature)
        if len(bounds) not in (1, 2):
            raise ConfigError(f"temperature is {temperature!r}", next_step="use 0.8, or (0.6, 1.2)")
        name = "" if model is None else str(model)
        return cls(name, float(bounds[0]), float(bounds[-1]), float(probability), seed, device)

    def degraded(self, image_chw: Tensor) -> Tensor:
        """A picture, 3 x H x W in [0, 1], degraded or, by ``probability``, as it is. Any thread may call it.

        One picture at a time goes through the network, which uses all of torch's threads by itself.
        """
        seed = draw_seed(None) if self.seed is None else self.seed
        key = "" if self.seed is None else image_key(image_chw)
        random = stable_generator(seed, key, "strength")
        if random.random() >= self.probability:
            return image_chw
        temperature = self.low + (self.high - self.low) * random.random()
        generator = torch.Generator().manual_seed(int(random.integers(np.iinfo(np.int64).max)))
        model = shared_model(self.model, self.device)
        with _computing:
            return model.degrade(image_chw[None], temperature, generator=generator)[0]
