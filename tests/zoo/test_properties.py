"""Properties that hold for all sizes, tiles, seeds, orders and batches, tried on inputs drawn by hypothesis.

The draws are the same in every run (``derandomize``), and few, for each is an inference.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.data.images.formats.png import encode_png16
from deflow_cli.data.images.formats.tiff import encode_tiff
from deflow_cli.inference.positional_noise import PositionalNoise
from deflow_cli.inference.restoring import Restorer
from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.inference.super_resolving import SuperResolver
from deflow_cli.inference.tiling import tiles
from deflow_cli.models.deflow.shift import ShiftDistribution
from deflow_cli.models.esrgan.generator import RRDBNet
from tests.inference.small import small_model, smooth_images
from tests.inference.small_srflow import images, started_srflow
from tests.zoo.animals import by_opencv, by_tifffile, picture, right, tifffile

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

SIDES = st.integers(1, 70)
SEEDS = st.integers(0, 2**63 - 1)
few = settings(derandomize=True, deadline=None, database=None, max_examples=8)
many = settings(derandomize=True, deadline=None, database=None, max_examples=50)
GRAY_LEVEL = 1 / 255


def translated(batch: Tensor, seed: int, names: list[str], samples: list[int], tile: int = 0) -> Tensor:
    """B N C H W: the samples of each image, in this order. Components alternate."""
    model = small_model()
    noises = [ImageNoise(seed, name) for name in names]
    components = [[0, 1, 0, 1]] * len(names)
    job = Job(ShiftDistribution(model.prior), noises, components, [1.0] * len(names))
    result = torch.full((len(batch), 4, *batch.shape[1:]), torch.nan)

    def write(sample: int, window: Window, piece: Tensor) -> None:
        result[:, sample][(..., *window.slices)] = piece

    Translator(model, tile=tile).translate(batch, job, samples, write)
    return result[:, samples]


@many
@given(SIDES, SIDES, st.integers(0, 80))
def test_tiles_cover_every_pixel_once(height: int, width: int, side: int) -> None:
    count = np.zeros((height, width), int)
    for window in tiles(height, width, side):
        count[window.slices] += 1
    assert (count == 1).all()


@many
@given(SEEDS, SIDES, SIDES, st.data())
def test_noise_of_a_window_is_that_part_of_the_whole(
    seed: int, height: int, width: int, data: st.DataObject
) -> None:
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    tall, wide = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    noise = PositionalNoise(seed, "a")
    whole = noise.normal("h", 3, 0, 0, height, width)
    part = noise.normal("h", 3, top, left, tall, wide)
    assert torch.equal(part, whole[..., top : top + tall, left : left + wide])


@few
@given(SIDES, SIDES, st.integers(8, 60), SEEDS)
def test_a_tiled_degradation_is_the_whole_one(height: int, width: int, tile: int, seed: int) -> None:
    image = smooth_images(1, height, width)
    whole, tiled = (translated(image, seed, ["a"], [0], side) for side in (0, tile))
    assert float((whole - tiled).abs().max()) < 0.05 * GRAY_LEVEL


@few
@given(SIDES, SIDES, SEEDS, st.permutations([0, 1, 2, 3]))
def test_samples_do_not_depend_on_their_order(height: int, width: int, seed: int, order: list[int]) -> None:
    image = smooth_images(1, height, width)
    together = translated(image, seed, ["a"], [0, 1, 2, 3])
    assert torch.equal(translated(image, seed, ["a"], order), together[:, order])
    alone = torch.cat([translated(image, seed, ["a"], [sample]) for sample in order], 1)
    assert float((alone - together[:, order]).abs().max()) < 1e-5


@few
@given(SIDES, SIDES, SEEDS, st.permutations(["a", "b", "c"]))
def test_images_do_not_depend_on_their_batch(height: int, width: int, seed: int, names: list[str]) -> None:
    batch = smooth_images(3, height, width)
    together = translated(batch, seed, names, [0])
    for index, name in enumerate(names):
        alone = translated(batch[index : index + 1], seed, [name], [0])
        assert float((alone - together[index : index + 1]).abs().max()) < 1e-5


@few
@given(SIDES, SIDES, st.integers(8, 60), st.sampled_from([1, 2, 4]))
def test_a_tiled_restoration_is_the_whole_one(height: int, width: int, tile: int, scale: int) -> None:
    model = RRDBNet(RestorerConfig(scale=scale, channels=8, blocks=1), torch.Generator().manual_seed(1))
    image = smooth_images(1, height, width)
    whole, tiled = (Restorer(model, "cpu", tile=side)(image) for side in (0, tile))
    assert whole.shape == (1, 3, height * scale, width * scale)
    assert float((whole - tiled).abs().max()) < 0.05 * GRAY_LEVEL


@few
@given(st.integers(1, 24), st.integers(1, 24), SEEDS, st.integers(1, 3))
def test_super_resolutions_do_not_depend_on_their_number(
    height: int, width: int, seed: int, count: int
) -> None:
    resolver, x = SuperResolver(started_srflow(), "cpu"), images(1, height, width)
    some, more = (resolver.sample(x, samples=number, seed=seed) for number in (count, 4))
    assert float((some - more[:, :count]).abs().max()) < 1e-5


@many
@given(SIDES, SIDES, st.integers(1, 4), st.integers(0, 1000), st.booleans())
def test_what_is_encoded_is_what_others_decode(
    height: int, width: int, channels: int, seed: int, deep: bool
) -> None:
    samples = picture(channels, "uint16" if deep else "uint8", height, width, seed)
    expected = right(samples)
    written = []
    if deep:
        written.append((by_opencv, encode_png16(samples, icc=None, exif=None)))
    if tifffile is not None:
        written.append((by_tifffile, encode_tiff(samples, icc=None, exif=None)))
    for decode, data in written:
        pixels, alpha = decode(data)
        np.testing.assert_array_equal(pixels, expected.pixels)
        assert (alpha is None) == (expected.alpha is None)
        if alpha is not None:
            np.testing.assert_array_equal(alpha, expected.alpha)
