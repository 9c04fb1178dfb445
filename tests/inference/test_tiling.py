"""Tiling: windows cover an image once, and what a pixel depends on lies within the overlap."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from deflow_cli.arrays import Window
from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.inference import tiling
from deflow_cli.inference.tiling import (
    around,
    crops,
    flow_bytes_per_pixel,
    flow_radius,
    flow_tile_side,
    flow_tile_sides,
    overlaps,
    tiles,
)
from tests.inference.small import small_model


@pytest.mark.parametrize(("height", "width", "side"), [(24, 40, 16), (16, 16, 0), (8, 64, 16), (40, 24, 64)])
def test_tiles_cover_every_pixel_once(height, width, side):
    count = torch.zeros(height, width)
    for window in tiles(height, width, side):
        count[window.slices] += 1
    assert bool((count == 1).all())


def test_windows_grow_within_the_image():
    assert Window(16, 0, 8, 8).grown(12, 100, 14) == Window(4, 0, 32, 14)
    assert Window(16, 8, 8, 4).divided(4) == Window(4, 2, 2, 1)
    assert Window(16, 8, 8, 4).within(Window(12, 8, 20, 20)) == (slice(4, 12), slice(0, 4))


@pytest.mark.parametrize("splits", ["none", "all"])
def test_radius_bounds_what_a_change_reaches(splits):
    """A changed pixel moves nothing beyond the radius of encoding and decoding, and something near it."""
    config = ModelConfig(
        FlowConfig(levels=2, steps=2, hidden_channels=8, splits=splits), EncoderConfig(8, 4, 1, (0,))
    )
    model = small_model().__class__(config, seed=1).double()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.flow.named_parameters():
        if "conv_out" in name or name.endswith("conv.weight"):
            torch.nn.init.normal_(parameter, 0.0, 0.1, generator=generator)
    radius = flow_radius(config)
    side = 2 * radius + 32
    image = torch.rand(1, 3, side, side, generator=generator, dtype=torch.float64)
    changed = image.clone()
    changed[..., 0, 0] += 0.5
    with torch.no_grad():
        conditions = model.prepare(model.condition_image(image))
        latents = [model.encode_conditioned(x, conditions)[0] for x in (image, changed)]
        # a shift that is no constant, or decoding would undo the encoding and its reach
        outputs = [model.decode_conditioned([z.abs() for z in zs], conditions) for zs in latents]
    moved = (outputs[1] - outputs[0]).abs().amax((0, 1))
    assert float(moved[: radius // 2, : radius // 2].max()) > 0
    assert float(moved[radius + 4 :].max()) == 0
    assert float(moved[:, radius + 4 :].max()) == 0


def test_overlaps_are_bounded_multiples():
    flow, encoder = overlaps(dataclasses.replace(small_model().config, flow=FlowConfig(levels=3, steps=16)))
    assert flow == tiling.FLOW_OVERLAP_LIMIT
    assert encoder == (15 + 4) * 4 + 4  # rounded up to a multiple of 8
    flow, _ = overlaps(small_model().config)
    assert flow == flow_radius(small_model().config)
    assert flow % small_model().size_multiple == 0


def test_small_images_are_not_tiled_and_large_ones_within_the_budget():
    model, cpu = small_model(), torch.device("cpu")
    assert flow_tile_side(model, 512, 512, cpu) == 0
    side = flow_tile_side(model, 40_000, 60_000, cpu)
    assert side % model.size_multiple == 0
    assert 256 <= side <= tiling.LARGEST_TILE
    window = side + 2 * overlaps(model.config)[0]
    assert (
        side == tiling.LARGEST_TILE
        or window**2 * tiling.flow_bytes_per_pixel(model) < 1.2 * tiling.CPU_BUDGET
    )


def test_what_the_whole_picture_takes_is_not_for_tiles():
    model, cpu, free = small_model(), torch.device("cpu"), 600 << 20
    pixels = 2000 * 3000
    side = flow_tile_side(model, 2000, 3000, cpu, free)
    window = side + 2 * overlaps(model.config)[0]
    assert (
        0 < window**2 * tiling.flow_bytes_per_pixel(model) < (free - tiling.PICTURE_BYTES * pixels) // 2 * 1.2
    )
    assert flow_tile_side(model, 1000, 1500, cpu, free) > side
    assert flow_tile_side(model, 2000, 3000, cpu, 1) >= tiling.SMALLEST_TILE


def test_tiles_may_be_wider_than_high():
    count = torch.zeros(40, 70)
    for window in tiles(40, 70, 16, 32):
        count[window.slices] += 1
    assert bool((count == 1).all())
    assert [(w.height, w.width) for w in tiles(16, 40, 16, 32)] == [(16, 32), (16, 8)]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 200), (17, 64)])
def test_windows_of_one_size_hold_their_tiles(height, width):
    sizes = set()
    for tile in tiles(height, width, 16):
        window = around(Window(tile.top, tile.left, 16, 16), 8, height, width)
        sizes.add((window.height, window.width))
        grown = tile.grown(8, height, width)
        assert window.top <= grown.top
        assert window.left <= grown.left
        assert grown.bottom <= window.bottom <= height
        assert grown.right <= window.right <= width
    assert len(sizes) == 1


def test_tiles_of_a_gpu_fit_the_budget_and_waste_little():
    model = small_model()
    by = overlaps(model.config)[0]
    pixels = 300_000
    budget = pixels * flow_bytes_per_pixel(model)
    assert flow_tile_sides(model, 500, 600, budget) == (0, 0)
    side, across = flow_tile_sides(model, 3000, 4000, budget)
    assert side % model.size_multiple == across % model.size_multiple == 0
    assert (side + 2 * by) * (across + 2 * by) <= pixels
    computed = -(-3000 // side) * -(-4000 // across) * (side + 2 * by) * (across + 2 * by)
    assert computed < 1.5 * 3000 * 4000
    side, across = flow_tile_sides(model, 3000, 4000, 1)
    assert 0 < side == across


def test_crops_cover_small_images_and_sample_large_ones():
    assert [(w.height, w.width) for w in crops(40, 64, 8)] == [(40, 64)]
    assert len(crops(256, 128, 8)) == 2
    large = crops(4000, 6000, 8)
    assert len(large) == 16
    assert large[-1].bottom == 4000
    assert large[-1].right == 6000
    assert all(w.top % 8 == 0 and w.left % 8 == 0 for w in large)
