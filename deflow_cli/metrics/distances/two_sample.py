"""Classifier two-sample test: can a small network tell synthetic high-passed patches from real ones?"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deflow_cli.arrays import Pixels
from deflow_cli.errors import DataError
from deflow_cli.metrics.distances.patch_classifier import (
    NoiseClassifier,
    PatchClassifier,
    balanced_accuracy,
    flip,
    share_right,
    train,
)
from deflow_cli.metrics.filters import high_pass
from deflow_cli.metrics.flat_patches import choose, patch_grid

TEST_PATCH_SIDE = 32  # px of a patch: larger ones are flat too seldom
TEST_PATCH_STRIDE = 16
PATCHES = 16  # at most, per image
TWO_SAMPLE_STEPS = 80  # of the classifier, per fold
QUICK_STEPS = 40
TWO_SAMPLE_IMAGES = 150  # per side; more are thinned evenly
_FEWEST = 4  # images a side

Groups = tuple[Sequence[Hashable], Sequence[Hashable]]


@dataclass(frozen=True)
class TwoSample:
    """Balanced accuracy on held-out images: 0.5 when the sets cannot be told apart, 1 when always.

    Below 0.5 is no better than chance either: what told the sets apart in one part of the names was the
    other way round in the rest, as with few images of many cameras. low, high: 95 % interval over images,
    not patches. per_image_real, per_image_fake: share of an image's patches told right, NaN for an image
    that had no usable patch or was thinned out.
    """

    accuracy: float
    low: float
    high: float
    per_image_real: tuple[float, ...] = ()
    per_image_fake: tuple[float, ...] = ()
    chance: float = 0.5


def two_sample(
    real: Sequence[Pixels],
    fake: Sequence[Pixels],
    *,
    seed: int,
    steps: int = TWO_SAMPLE_STEPS,
    folds: int = 2,
    groups: Groups | None = None,
    quick: bool = False,
) -> TwoSample:
    """Train a small network to tell real (uint8 H x W x 3) from fake, and measure it on held-out images.

    It sees high-passed 32 px patches of the flattest parts, up to 16 an image, flipped, on a common scale:
    strength, colour, correlation and shape of the noise, and of the content as little as can be. Every image
    is held out once, by a network that has not seen it. groups: a key per real and per fake image; images
    of one key (the same scene) are held out together. Without, the folds are runs of neighbours: pass
    images in name order, where those of one scene are neighbours. quick: half the steps. Deterministic
    given the seed and the thread count. Raises DataError with fewer than four usable images a side.
    """
    crops = [_crops(images) for images in (real, fake)]
    for name, found in zip(("real", "synthetic"), crops, strict=True):
        if len(found) < max(_FEWEST, folds):
            raise DataError(
                f"{len(found)} {name} images have an unclipped flat patch of {TEST_PATCH_SIDE} px;"
                f" the two-sample test needs {max(_FEWEST, folds)}",
                next_step="give more or larger images, or leave the two-sample test out",
            )
    held = _folds([sorted(side) for side in crops], groups, folds)
    scale = _scale(crops)
    shares: list[dict[int, float]] = [{}, {}]
    for fold in range(folds):
        generator = torch.Generator().manual_seed(seed + fold)
        model = _fit(crops, held, fold, scale, QUICK_STEPS if quick else steps, generator)
        for side in (0, 1):
            for index in (i for i, fold_of_image in held[side].items() if fold_of_image == fold):
                shares[side][index] = share_right(model, crops[side][index], side)
    accuracy, error = balanced_accuracy(list(shares[0].values()), list(shares[1].values()))
    per_image = [
        tuple(share_of.get(index, float("nan")) for index in range(count))
        for share_of, count in zip(shares, (len(real), len(fake)), strict=True)
    ]
    low, high = max(0.0, accuracy - 1.96 * error), min(1.0, accuracy + 1.96 * error)
    return TwoSample(accuracy, low, high, per_image[0], per_image[1])


def _crops(images: Sequence[Pixels]) -> dict[int, Tensor]:
    """Of every image, thinned evenly to 150, that has any: high-passed flat patches, n x 3 x 32 x 32."""
    sampled = (
        np.linspace(0, len(images) - 1, min(len(images), TWO_SAMPLE_IMAGES)).round().astype(int).tolist()
    )
    grids, patches = [], []
    for index in sampled:
        residual = high_pass(images[index])
        grid = patch_grid(images[index], residual, TEST_PATCH_SIDE, TEST_PATCH_STRIDE, PATCHES)
        crops = np.empty((len(grid), TEST_PATCH_SIDE, TEST_PATCH_SIDE, 3), dtype=np.float32)
        for i, (y, x) in enumerate(grid.corners):
            crops[i] = residual[y : y + TEST_PATCH_SIDE, x : x + TEST_PATCH_SIDE]
        grids.append(grid)
        patches.append(torch.from_numpy(crops.transpose(0, 3, 1, 2)))
    chosen = choose(grids, fewest=max(2 * _FEWEST, len(sampled) // 4))
    return {
        index: crops[torch.from_numpy(rows)]
        for index, crops, rows in zip(sampled, patches, chosen, strict=True)
        if len(rows)
    }


def _scale(crops: Sequence[dict[int, Tensor]]) -> float:
    """Std over both sides, so that noise of any strength trains alike; one number, to keep the strengths."""
    square = [float(np.mean([float(c.square().mean()) for c in side.values()])) for side in crops]
    return max(float(np.sqrt(np.mean(square))), 0.25 / 255)


def _folds(indices: Sequence[list[int]], groups: Groups | None, folds: int) -> list[dict[int, int]]:
    """Fold of each image, per side: runs of keys, those of both sides and those of one dealt apart."""
    keys: list[dict[int, Hashable]] = [
        {i: (side, i) if groups is None else groups[side][i] for i in members}
        for side, members in enumerate(indices)
    ]
    both = set(keys[0].values()) & set(keys[1].values())
    fold_of: dict[Hashable, int] = {}
    for shared in (True, False):
        for side in keys:
            members = [k for k in dict.fromkeys(side.values()) if (k in both) == shared and k not in fold_of]
            fold_of.update({key: place * folds // len(members) for place, key in enumerate(members)})
    return [{i: fold_of[key] for i, key in side.items()} for side in keys]


def _fit(
    crops: Sequence[dict[int, Tensor]],
    held: Sequence[dict[int, int]],
    fold: int,
    scale: float,
    steps: int,
    generator: torch.Generator,
) -> PatchClassifier:
    """A classifier trained on all images but those of the fold."""
    training = [[patches for i, patches in crops[side].items() if held[side][i] != fold] for side in (0, 1)]

    def draw(side: int, which: Sequence[int]) -> Tensor:
        draws = torch.rand(len(which), 3, generator=generator).tolist()
        out = []
        for index, (u, flip_y, flip_x) in zip(which, draws, strict=True):
            patches = training[side][index]
            out.append(flip(patches[int(u * len(patches))], flip_y, flip_x))
        return torch.stack(out)

    model = NoiseClassifier(3, lambda patches: patches / scale, generator)
    return train(model, (len(training[0]), len(training[1])), draw, steps, generator)
