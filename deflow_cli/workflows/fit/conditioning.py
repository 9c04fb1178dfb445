"""Choosing the conditioning h(x): the least downsampling that hides the domain."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.data.images.image_cache import ImageCache
from deflow_cli.errors import DataError
from deflow_cli.layers.networks.resize import bicubic_downsample
from deflow_cli.metrics.distances.domain_leak import SMALLEST, Leak, domain_leak, pool_leaks

LEAK_TEST_CROP = 384  # px of each image looked at; enough for one patch of h at s = 16
LEAK_TEST_IMAGES = 150  # per domain
FOLDS = 2
LEAK_TEST_STEPS = 300  # of the classifier, per fold
MARGIN = 0.05  # accuracy above chance that counts as a leak
_LOADING_SHARE = 0.4  # of the time limit; reading large photographs stops there
_FEWEST = 4  # images per domain: below, nothing can be said

HMap = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ConditioningChoice:
    """Downsampling s and noise (std, [0, 1] scale) of h(x).

    table: (s, noise, held-out accuracy, standard error) per candidate tried. text: the reason, for people.
    """

    downsample: int
    h_noise: float
    table: tuple[tuple[int, float, float, float], ...]
    text: str


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tiny convolutions run slower on several threads, many times so beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _crops(pools: Sequence[ImageCache], seed: int, until: float) -> list[NDArray[np.uint8]]:
    """A crop of at most CROP px per image, in the order of the paths; broken images are left out."""
    entries = [(path, pool, index) for pool in pools for index, path in enumerate(pool.paths)]
    entries.sort(key=lambda entry: entry[0])
    picked = np.unique(
        np.linspace(0, len(entries) - 1, min(len(entries), LEAK_TEST_IMAGES)).round().astype(int)
    )
    found: dict[int, NDArray[np.uint8]] = {}
    for place in np.random.Generator(np.random.PCG64(seed)).permutation(picked):
        if len(found) >= 2 * _FEWEST and time.monotonic() > until:
            break
        _, pool, index = entries[place]
        try:
            image = pool.get(index)
        except DataError:
            continue
        y, x = (max(0, side - LEAK_TEST_CROP) // 2 for side in image.shape[:2])
        found[int(place)] = image[y : y + LEAK_TEST_CROP, x : x + LEAK_TEST_CROP].copy()
    return [found[place] for place in sorted(found)]


def _conditioning(crop: NDArray[np.uint8], s: int, multiple: int, change: HMap | None) -> Tensor:
    """h without its noise, 3 x H/s x W/s, of the part of a crop that holds whole cells."""
    height, width = (side // multiple * multiple for side in crop.shape[:2])
    planes = torch.from_numpy(np.ascontiguousarray(crop[:height, :width].transpose(2, 0, 1)))
    h = bicubic_downsample(planes.float()[None] / 255, s)[0]
    if change is not None:
        h = change(h[None])[0]
    return h


def _cross_fit(clean: Sequence[Tensor], noisy: Sequence[Tensor], seed: int, h_noise: float) -> Leak:
    """Accuracy with every image held out once.

    The folds are runs of neighbours in name order: several images of one scene mostly have neighbouring
    names, and a classifier that has seen the scene would pass for one that sees the degradation.
    """
    leaks = []
    for fold in range(FOLDS):
        sides = []
        for images in (clean, noisy):
            cut = [round(len(images) * k / FOLDS) for k in (fold, fold + 1)]
            sides.append(([*images[: cut[0]], *images[cut[1] :]], list(images[cut[0] : cut[1]])))
        (clean_train, clean_held), (noisy_train, noisy_held) = sides
        leaks.append(
            domain_leak(
                clean_train,
                noisy_train,
                clean_held,
                noisy_held,
                seed=seed + fold,
                steps=LEAK_TEST_STEPS,
                h_noise=h_noise,
            )
        )
    return pool_leaks(leaks)


def _decide(
    table: Sequence[tuple[int, float, float, float]], accepted: bool, h_noise: float, out_of_time: bool
) -> ConditioningChoice:
    s, _, accuracy, error = min(table, key=lambda row: row[2]) if not accepted else table[-1]
    told = f"{100 * accuracy:.0f} +- {100 * error:.0f} % of held-out patches"
    if accepted:
        text = f"h at 1/{s} hides the domain: a classifier tells {told} right, chance is 50 %"
        return ConditioningChoice(s, h_noise, tuple(table), text)
    text = (
        f"h betrays the domain at every size tried; least at 1/{s} ({told} told right, chance is 50 %)."
        f" The noise on h is doubled to {2 * h_noise:g}. Do the folders differ in scenes, colours or"
        " sharpness rather than in noise? Channel statistics may help with colours"
    )
    if out_of_time:
        text += ". Time ran out before all sizes were tried"
    return ConditioningChoice(s, 2 * h_noise, tuple(table), text)


def choose_conditioning(
    clean: ImageCache,
    noisy: ImageCache,
    *,
    held_clean: ImageCache | None = None,
    held_noisy: ImageCache | None = None,
    levels_multiple: int = 1,
    candidates: Sequence[int] = (4, 8, 16),
    h_noise: float = 0.03,
    seed: int = 0,
    time_limit: float = 30.0,
    noisy_map: HMap | None = None,
) -> ConditioningChoice:
    """The smallest s at which a small classifier does not tell clean from noisy h above chance.

    Above chance: by more than 5 points and two standard errors over images. The held-out pools join in:
    every image is classified by a network that has not seen it. If all candidates leak, the one that
    leaks least is taken with twice the noise, and the text says so. With too few or too small images the
    first candidate is taken untested.

    levels_multiple: crop sides are multiples of this and of s, as the model's are. noisy_map:
    applied to h of the noisy images, B 3 H W, where channel statistics are to be normalised.
    time_limit: seconds; no further candidate is tried beyond, so the outcome may then depend on speed.
    """
    assert candidates
    start = time.monotonic()
    until = start + _LOADING_SHARE * time_limit
    pools = [
        [pool for pool in side if pool is not None] for side in ((clean, held_clean), (noisy, held_noisy))
    ]
    middle = (time.monotonic() + until) / 2
    crops = [_crops(pools[0], seed, middle), _crops(pools[1], seed, until)]
    table: list[tuple[int, float, float, float]] = []
    accepted = out_of_time = False
    for s in candidates:
        multiple = math.lcm(s, levels_multiple)
        usable = [
            [c for c in side if min(c.shape[:2]) // multiple * multiple >= SMALLEST * s] for side in crops
        ]
        if min(len(side) for side in usable) < _FEWEST:
            continue
        if table and time.monotonic() - start > time_limit:
            out_of_time = True
            break
        with _one_thread():
            h_clean = [_conditioning(crop, s, multiple, None) for crop in usable[0]]
            h_noisy = [_conditioning(crop, s, multiple, noisy_map) for crop in usable[1]]
            leak = _cross_fit(h_clean, h_noisy, seed, h_noise)
        table.append((s, h_noise, leak.accuracy, leak.standard_error))
        if not leak.exceeds_chance(MARGIN):
            accepted = True
            break
    if not table:
        text = (
            f"too few or too small images for the domain-leak test; h at 1/{candidates[0]} is taken untested"
        )
        return ConditioningChoice(candidates[0], h_noise, (), text)
    return _decide(table, accepted, h_noise, out_of_time)
