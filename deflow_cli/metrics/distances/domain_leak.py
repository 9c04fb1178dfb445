"""Domain leak: how well clean and noisy are told apart by the conditioning image h alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deflow_cli.errors import ShapeError
from deflow_cli.metrics.distances.patch_classifier import (
    PatchClassifier,
    balanced_accuracy,
    flip,
    share_right,
    train,
)

PATCH = 18  # h pixels per side the classifier sees at once
SMALLEST = 11  # below, the convolutions leave nothing
_HELD_PATCHES = 16  # per held-out image
_DETAIL_SCALE = 16.0  # brings detail of some grey levels to the order of 1


@dataclass(frozen=True)
class Leak:
    """Balanced accuracy on held-out images, 0.5 (nothing betrays the domain) to 1.

    standard_error: over images, not patches, which are not independent. per_image_clean and
    per_image_noisy: share of an image's patches told right.
    """

    accuracy: float
    standard_error: float
    per_image_clean: tuple[float, ...] = ()
    per_image_noisy: tuple[float, ...] = ()
    chance: float = 0.5

    def exceeds_chance(self, margin: float, errors: float = 2.0) -> bool:
        """Whether the accuracy is above chance by ``margin`` and by ``errors`` standard errors."""
        return self.accuracy > self.chance + max(margin, errors * self.standard_error)


def pool_leaks(leaks: Sequence[Leak]) -> Leak:
    """One result from those of disjoint sets of held-out images."""
    clean = tuple(share for leak in leaks for share in leak.per_image_clean)
    noisy = tuple(share for leak in leaks for share in leak.per_image_noisy)
    return _summary(clean, noisy)


def _summary(clean: tuple[float, ...], noisy: tuple[float, ...]) -> Leak:
    accuracy, error = balanced_accuracy(clean, noisy)
    return Leak(accuracy, error, clean, noisy)


def _prepare(h_bchw: Tensor) -> Tensor:
    """h and its detail, as the classifier sees them: B x 6 x H - 2 x W - 2."""
    inner = h_bchw[:, :, 1:-1, 1:-1]
    return torch.cat([inner - 0.5, (inner - F.avg_pool2d(h_bchw, 3, 1)) * _DETAIL_SCALE], 1)


def _patches(
    images: Sequence[Tensor], which: Sequence[int], size: int, h_noise: float, generator: torch.Generator
) -> Tensor:
    """One noisy random patch, flipped, of each named image: len(which) x 3 x size x size."""
    draws = torch.rand(len(which), 4, generator=generator).tolist()
    out = torch.empty(len(which), 3, size, size)
    for i, (index, (u, v, flip_y, flip_x)) in enumerate(zip(which, draws, strict=True)):
        image = images[index]
        y, x = int(u * (image.shape[1] - size + 1)), int(v * (image.shape[2] - size + 1))
        patch = image[:, y : y + size, x : x + size]
        out[i] = flip(patch, flip_y, flip_x)
    return out + h_noise * torch.randn(out.shape, generator=generator)


def domain_leak(
    clean_h: Sequence[Tensor],
    noisy_h: Sequence[Tensor],
    held_clean_h: Sequence[Tensor],
    held_noisy_h: Sequence[Tensor],
    *,
    seed: int,
    steps: int,
    h_noise: float = 0.0,
) -> Leak:
    """Train a small classifier on patches of h and measure it on the held-out images.

    Images: 3 x H x W float32 in [0, 1], sizes may differ; patches are 18 px or the smallest side.
    The noise of std ``h_noise`` is drawn anew for every patch, as the model draws it. Deterministic given the
    seed and the thread count. Raises ShapeError if an image is below 11 px.
    """
    everything = [*clean_h, *noisy_h, *held_clean_h, *held_noisy_h]
    assert min(len(clean_h), len(noisy_h), len(held_clean_h), len(held_noisy_h)) > 0
    size = min(PATCH, *(min(image.shape[1:]) for image in everything))
    if size < SMALLEST:
        raise ShapeError(f"h is {size} px at its smallest; the domain-leak test needs {SMALLEST} px")
    generator = torch.Generator().manual_seed(seed)
    sets = (clean_h, noisy_h)

    def draw(side: int, which: Sequence[int]) -> Tensor:
        return _patches(sets[side], which, size, h_noise, generator)

    model = PatchClassifier(6, _prepare, generator)
    train(model, (len(clean_h), len(noisy_h)), draw, steps, generator)
    shares: list[tuple[float, ...]] = []
    for label, images in enumerate((held_clean_h, held_noisy_h)):
        own = []
        for index in range(len(images)):
            patches = _patches(images, [index] * _HELD_PATCHES, size, h_noise, generator)
            own.append(share_right(model, patches, label))
        shares.append(tuple(own))
    return _summary(shares[0], shares[1])
