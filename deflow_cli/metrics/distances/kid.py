"""KID: kernel distance between two sets of patch features, resampled over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deflow_cli.arrays import Array
from deflow_cli.errors import DataError

CLIP = 5.0
"""Standardised features beyond this are cut: a wild patch must not decide a cubic kernel."""
KID_RESAMPLES = 1000
SPLITS = 100
_ROWS = 2048  # of the kernel matrix held at once
_FEWEST = 4  # images a side


@dataclass(frozen=True)
class Kid:
    """Squared kernel distance, 0 for equal laws, with its 95 % interval over images.

    floor: mean of the same figure between random disjoint halves of the real images; the estimate is
    unbiased, so it is near 0. floor_high: 97.5 % of those splits stay below it; NaN with fewer than 8 real
    images. A value above floor_high is no accident of which scenes were drawn.
    """

    value: float
    low: float
    high: float
    floor: float
    floor_high: float = float("nan")


def kid(
    real: Sequence[Array],
    fake: Sequence[Array],
    rng: np.random.Generator,
    *,
    patches: int = 32,
    standardise: bool = True,
) -> Kid:
    """Unbiased MMD^2 with the kernel (x.y / D + 1)^3 of features n x D, one array per image; lower is better.

    Up to ``patches`` rows of every image are drawn, as many from each, and no two of one image are compared
    with each other: patches of an image are not independent. standardise: features become (x - centre) /
    spread, of the real set's robust centre and spread, cut at +-5; False for features that have their own
    scale (Inception: the usual KID, in patches). Images without a patch are left out. Raises DataError with
    fewer than four images a side or unlike D.
    """
    sides = [[image for image in side if len(image)] for side in (real, fake)]
    for name, side in zip(("real", "synthetic"), sides, strict=True):
        if len(side) < _FEWEST:
            raise DataError(
                f"{len(side)} {name} images have patches to compare; at least {_FEWEST} are needed"
            )
    if len({image.shape[1] for side in sides for image in side}) != 1:
        raise DataError("real and synthetic features are not equally many")
    picked = [[_draw(image, patches, rng) for image in side] for side in sides]
    if standardise:
        centre, spread = robust_scale(np.concatenate(picked[0]))
        picked = [[np.clip((i - centre) / spread, -CLIP, CLIP) for i in side] for side in picked]
    count = len(picked[0])
    kernel = _image_kernel([*picked[0], *picked[1]])
    rr, ff, rf = kernel[:count, :count], kernel[count:, count:], kernel[:count, count:]
    ones = (np.ones((1, count)), np.ones((1, len(ff))))
    value = float(_mmd(rr, ff, rf, *ones)[0])
    draws = _mmd(rr, ff, rf, *(_multinomial(side.shape[1], rng) for side in ones))
    # bootstrap quantiles about the estimate, whose own bias under resampling is taken off
    low, high = value + np.quantile(draws - draws.mean(), [0.025, 0.975])
    floor, floor_high = _floor(rr, rng)
    return Kid(value, float(low), float(high), floor, floor_high)


def kid_difference(
    real: Sequence[Array],
    one: Sequence[Array],
    other: Sequence[Array],
    rng: np.random.Generator,
    *,
    patches: int = 32,
) -> tuple[float, float]:
    """KID of ``one`` less KID of ``other``, and the standard error of that over images (bootstrap).

    one and other are two degradations of the same pictures in the same order, so that what scenes do to KID
    cancels out. Features as in ``kid``, standardised; pictures without a patch in either are left out. Raises
    DataError with fewer than four images a side.
    """
    real = [image for image in real if len(image)]
    both = [pair for pair in zip(one, other, strict=True) if all(map(len, pair))]
    for name, side in (("real", real), ("synthetic", both)):
        if len(side) < _FEWEST:
            raise DataError(
                f"{len(side)} {name} images have patches to compare; at least {_FEWEST} are needed"
            )
    picked = [_draw(image, patches, rng) for image in (*real, *(x for x, _ in both), *(x for _, x in both))]
    centre, spread = robust_scale(np.concatenate(picked[: len(real)]))
    kernel = _image_kernel([np.clip((image - centre) / spread, -CLIP, CLIP) for image in picked])
    ends = len(real), len(real) + len(both)
    parts = [slice(0, ends[0]), slice(*ends), slice(ends[1], None)]

    def difference(real_weights: Array, weights: Array) -> Array:
        first, second = (
            _mmd(
                kernel[parts[0], parts[0]], kernel[part, part], kernel[parts[0], part], real_weights, weights
            )
            for part in parts[1:]
        )
        return first - second

    value = difference(np.ones((1, len(real))), np.ones((1, len(both))))
    draws = difference(_multinomial(len(real), rng), _multinomial(len(both), rng))
    return float(value[0]), float(draws.std())


def robust_scale(features: Array) -> tuple[Array, Array]:
    """Median, and 1.4826 times the median absolute deviation (std where that is zero), per feature."""
    centre = np.median(features, axis=0)
    spread = 1.4826 * np.median(np.abs(features - centre), axis=0)
    deviation = features.std(axis=0)
    spread = np.where(spread > 1e-3 * deviation, spread, deviation)
    return centre, np.where(spread > 0, spread, 1.0)


def _draw(image: Array, patches: int, rng: np.random.Generator) -> Array:
    if len(image) <= patches:
        return np.asarray(image, dtype=np.float64)
    return np.asarray(image[np.sort(rng.choice(len(image), patches, replace=False))], dtype=np.float64)


def _image_kernel(images: Sequence[Array]) -> Array:
    """Mean kernel between the patches of every two images: M x M (the diagonal is not used)."""
    features = np.concatenate(images)
    starts = np.cumsum([0, *(len(image) for image in images)])[:-1]
    sums = np.concatenate(
        [
            np.add.reduceat(
                (features[i : i + _ROWS] @ features.T / features.shape[1] + 1.0) ** 3, starts, axis=1
            )
            for i in range(0, len(features), _ROWS)
        ]
    )
    sizes = np.array([len(image) for image in images], dtype=np.float64)
    return np.add.reduceat(sums, starts, axis=0) / np.outer(sizes, sizes)


def _mmd(rr: Array, ff: Array, rf: Array, real: Array, fake: Array) -> Array:
    """MMD^2 under weights of images, B x N_real and B x N_fake; an image is never paired with itself."""

    def within(kernel: Array, weights: Array) -> Array:
        own = np.sum(weights**2 * np.diag(kernel), axis=1)
        pairs = weights.sum(axis=1) ** 2 - np.sum(weights**2, axis=1)
        total = np.einsum("bi,ij,bj->b", weights, kernel, weights, optimize=True)
        return (total - own) / np.maximum(pairs, 1e-12)

    cross = np.einsum("bi,ij,bj->b", real, rf, fake, optimize=True) / (real.sum(axis=1) * fake.sum(axis=1))
    return within(rr, real) + within(ff, fake) - 2.0 * cross


def _multinomial(count: int, rng: np.random.Generator) -> Array:
    return rng.multinomial(count, np.full(count, 1.0 / count), KID_RESAMPLES).astype(np.float64)


def _floor(rr: Array, rng: np.random.Generator) -> tuple[float, float]:
    """Mean and 97.5 % quantile of MMD^2 between disjoint halves of the real images, over random splits."""
    count = len(rr)
    if count < 2 * _FEWEST:
        return float("nan"), float("nan")
    values = []
    for _ in range(SPLITS):
        order = rng.permutation(count)
        one, two = order[: count // 2], order[count // 2 :]
        weights = (np.ones((1, len(one))), np.ones((1, len(two))))
        values.append(_mmd(rr[np.ix_(one, one)], rr[np.ix_(two, two)], rr[np.ix_(one, two)], *weights)[0])
    return float(np.mean(values)), float(np.quantile(values, 0.975))
