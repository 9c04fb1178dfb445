"""How a picture's kernel is found: KernelGAN's training, or the power spectrum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from deflow_cli.arrays import Array, Pixels
from deflow_cli.data.blur.crop_probabilities import (
    crop_probabilities,
    draw_corners,
    gradient_map,
    large_crop_probabilities,
)
from deflow_cli.data.blur.shapes import centred_kernel, drop_negligible, four_fold, gaussian_kernel
from deflow_cli.data.blur.spectrum import blur_from_spectrum
from deflow_cli.errors import DataError, DeflowError, TrainingError
from deflow_cli.models.kernelgan.training import LARGE_CROP, SMALL_CROP, KernelGANTraining
from deflow_cli.runtime.seeding import derived_seed

_LEAST_SIDE = 96  # px of a picture; smaller ones leave KernelGAN no place to draw crops from
_SHAVED = 10  # px on every side that KernelGAN leaves out
_LEAST_SUPPORT, _MOST_SUPPORT = 13, 65  # px of a Gaussian's side
_SUPPORT_SIGMAS = 4
_TOLD_EVERY = 50  # steps


@dataclass(frozen=True)
class Task:
    """One picture. key: its path below the folder, by which it is seeded."""

    key: str
    pixels: Pixels


@dataclass(frozen=True)
class KernelEstimate:
    """A kernel of sum 1, and what the method has to say of how it was found."""

    kernel: Array
    found: dict[str, float]


class KernelFinder(Protocol):
    """Finds the kernels of a few pictures at once."""

    def check(self, task: Task) -> None:
        """Raises DataError for a picture without a kernel to be found: it would fail among others."""

    def estimate(
        self, tasks: Sequence[Task], tell: Callable[[float], None]
    ) -> list[KernelEstimate | DeflowError]:
        """The kernel of each picture, or why there is none. tell: takes the share that is done."""


def _check_size(task: Task) -> None:
    """Raises DataError for a picture that is too small."""
    height, width = task.pixels.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        raise DataError(f"{width}x{height} is too small: a side of {_LEAST_SIDE} px is needed")


class SpectrumFinder:
    """The Gaussian blur that a picture's spectrum shows, in pixels of one ``scale`` times as large."""

    def __init__(self, scale: int) -> None:
        self._scale = scale

    def check(self, task: Task) -> None:
        _check_size(task)

    def estimate(
        self, tasks: Sequence[Task], tell: Callable[[float], None]
    ) -> list[KernelEstimate | DeflowError]:
        return [self._estimate(task) for task in tasks]

    def _estimate(self, task: Task) -> KernelEstimate | DeflowError:
        try:
            blur = blur_from_spectrum(task.pixels)
        except DataError as error:
            return error
        covariance = self._scale**2 * blur.covariance
        reach = math.ceil(_SUPPORT_SIGMAS * math.sqrt(float(np.linalg.eigvalsh(covariance)[-1])))
        side = min(max(2 * reach + 1, _LEAST_SUPPORT), _MOST_SUPPORT)
        kernel = gaussian_kernel(covariance, side, (self._scale - 1) / 2)
        found = {"exponent": blur.exponent, "noise": 255 * blur.noise, "misfit": blur.misfit}
        return KernelEstimate(kernel, {name: round(value, 4) for name, value in found.items()})


class KernelGANFinder:
    """KernelGAN: a linear generator learns to make pictures of half the size with the same small patches.

    iterations: of training. seed: of everything random, with the picture's key.
    """

    def __init__(self, scale: int, iterations: int, seed: int, device: torch.device) -> None:
        self._scale, self._iterations, self._seed, self._device = scale, iterations, seed, device

    def check(self, task: Task) -> None:
        _check_size(task)
        if not gradient_map(_shaved(task.pixels)).any():
            raise DataError("a flat picture: it has no detail to see a blur by")

    def estimate(
        self, tasks: Sequence[Task], tell: Callable[[float], None]
    ) -> list[KernelEstimate | DeflowError]:
        with _small_operations():
            kernels, losses = self._train(tasks, tell)
        rows = zip(kernels, *(loss.tolist() for loss in losses), strict=True)
        return [self._finished(*row) for row in rows]

    def _train(
        self, tasks: Sequence[Task], tell: Callable[[float], None]
    ) -> tuple[Array, tuple[torch.Tensor, torch.Tensor]]:
        """The kernels at the end, N x 13 x 13, and the losses of generators and discriminators."""
        seeds = [derived_seed(self._seed, task.key, "kernelgan") for task in tasks]
        training = KernelGANTraining(seeds, self._device)
        sources = [
            _Crops(_shaved(task.pixels), self._iterations, seed, self._device)
            for task, seed in zip(tasks, seeds, strict=True)
        ]
        losses = (torch.zeros(len(tasks)), torch.zeros(len(tasks)))
        for step in range(self._iterations):
            large = torch.stack([source.large(step) for source in sources])
            small = torch.stack([source.small(step) for source in sources])
            losses = training.step(large, small)
            if (step + 1) % _TOLD_EVERY == 0:
                tell((step + 1) / self._iterations)
        with torch.no_grad():
            return training.generator.kernels().double().cpu().numpy(), losses

    def _finished(
        self, kernel: Array, generator: float, discriminator: float
    ) -> KernelEstimate | DeflowError:
        if not np.isfinite(kernel).all():
            return TrainingError("the training diverged", next_step="try another --seed")
        if kernel.max() <= 0:
            return TrainingError("the training came to no kernel", next_step="take more --iterations")
        found = {
            "generator_loss": generator,
            "discriminator_loss": discriminator,
            "raw_sum": float(kernel.sum()),
        }
        clean = centred_kernel(drop_negligible(kernel), 0.5)
        whole = four_fold(clean) if self._scale == 4 else clean / clean.sum()
        return KernelEstimate(whole, {name: round(value, 4) for name, value in found.items()})


@contextmanager
def _small_operations() -> Iterator[None]:
    """One thread, which is as fast for arrays of this size and always sums in the same order; no denormals.

    Most of an untrained generator's kernel is so small that the processor would compute it in microcode.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


def _shaved(pixels: Pixels) -> Pixels:
    """Without the rim, at even sides."""
    inner = pixels[_SHAVED:-_SHAVED, _SHAVED:-_SHAVED]
    height, width = (side // 2 * 2 for side in inner.shape[:2])
    return inner[:height, :width]


class _Crops:
    """The crops of one picture, step for step, drawn in advance."""

    def __init__(self, pixels: Pixels, steps: int, seed: int, device: torch.device) -> None:
        random = np.random.Generator(np.random.PCG64(seed))
        gradients = gradient_map(pixels)
        self._large = draw_corners(large_crop_probabilities(pixels, LARGE_CROP), LARGE_CROP, steps, random)
        self._small = draw_corners(crop_probabilities(gradients, SMALL_CROP), SMALL_CROP, steps, random)
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(device)
        self._image = image.float() / 127.5 - 1

    def large(self, step: int) -> torch.Tensor:
        y, x = self._large[step]
        return self._image[:, y : y + LARGE_CROP, x : x + LARGE_CROP]

    def small(self, step: int) -> torch.Tensor:
        y, x = self._small[step]
        return self._image[:, y : y + SMALL_CROP, x : x + SMALL_CROP]
