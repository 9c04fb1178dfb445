"""Noise patches: which tiles are collected, and how a picture is covered with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.noise.patches import NoisePatchDegrader, NoisePatches
from deflow_cli.errors import DataError


def patches():
    rng = np.random.default_rng(0)
    return NoisePatches(tuple(rng.integers(90, 130, (40, 40, 3), dtype=np.uint8) for _ in range(5)))


def picture(height, width, level=100, noise=2.0, seed=0):
    rng = np.random.default_rng(seed)
    grain = rng.normal(0, noise, (height, width, 1))
    return np.clip(np.rint(level + grain + np.zeros((1, 1, 3))), 0, 255).astype(np.uint8)


def test_tiles_that_end_at_the_border_are_not_looked_at():
    assert len(NoisePatches.collect([picture(512, 512)]).tiles) == 1
    assert len(NoisePatches.collect([picture(513, 800)]).tiles) == 6
    tiles = NoisePatches.collect([picture(65, 65)], side=32).tiles
    assert len(tiles) == 4
    assert np.array_equal(tiles[1], picture(65, 65)[:32, 32:64])


def test_flat_and_bright_tiles_count_alone():
    dark, bright, rough = picture(33, 33, 20), picture(33, 33, 100), picture(33, 33, 100, noise=5)
    options = {"side": 32}
    assert len(NoisePatches.collect([dark, bright, rough], **options).tiles) == 2
    assert len(NoisePatches.collect([dark, bright, rough], min_mean=50, **options).tiles) == 1
    assert len(NoisePatches.collect([dark, bright, rough], max_variance=40, **options).tiles) == 3
    # BT.601, in whole numbers: red noise weighs little
    red = np.concatenate([rough[..., :1], np.full((33, 33, 2), 100, np.uint8)], -1)
    assert len(NoisePatches.collect([red], **options).tiles) == 1


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (picture(64, 64), {}, ["64 px", "more than 256"]),
        (picture(64, 64, noise=20), {"side": 32}, ["none of 1", "variance below 20", "least is"]),
        (picture(64, 64, level=10), {"side": 32, "min_mean": 50}, ["above 50"]),
    ],
)
def test_without_a_patch_the_error_says_what_there_is(image, options, words):
    with pytest.raises(DataError) as caught:
        NoisePatches.collect([image], **options)
    assert all(word in str(caught.value) for word in words)
    assert "--patch-" in caught.value.next_step


def test_patches_are_put_side_by_side_without_their_mean():
    pool = patches()
    degrader = NoisePatchDegrader(pool, 16)
    image = torch.full((1, 3, 40, 48), 0.5)
    noise = (degrader.degrade(image, [Draw(0, "a")]) - image)[0].double().numpy()
    cells = [noise[:, y : y + 16, x : x + 16] for y in (0, 16) for x in (0, 16, 32)]
    for cell in cells:
        assert cell.mean(axis=(1, 2)) == pytest.approx(0, abs=1e-6)
    # every cell is a crop of some tile, mean removed
    views = [
        np.lib.stride_tricks.sliding_window_view(tile / 255.0, (16, 16), axis=(0, 1)) for tile in pool.tiles
    ]
    for cell in cells:
        gaps = [np.abs(v - v.mean((-2, -1), keepdims=True) - cell).max((-3, -2, -1)).min() for v in views]
        assert min(gaps) < 1e-6
    assert len({cell.tobytes() for cell in cells}) == len(cells)
    small = degrader.degrade(torch.full((1, 3, 16, 16), 0.5), [Draw(0, "a")])  # as in training: one patch
    assert small[0].double().numpy() - 0.5 == pytest.approx(cells[0], abs=1e-6)
