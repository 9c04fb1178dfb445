"""Tiling: large images in pieces whose overlap covers what a pixel can depend on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch

from deflow_cli.arrays import Window
from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.errors import DeviceError, memory_asked
from deflow_cli.layers.invertible.flow import ConditionalFlow
from deflow_cli.layers.networks.condition_encoder import ConditionEncoder
from deflow_cli.models.deflow.model import DeFlow

# What a pixel depends on in fact ends long before the theoretical radius. Measured on two fitted models with
# M = I (samples 19 and 30 gray levels strong), 64-pixel tiles against the whole: 4 bounded steps per level
# (radius 224) differ by at most 2.1, 0.08 and 0.008 gray levels with overlaps of 32, 48 and 64 pixels; 16
# published steps (radius 908) by 0.005 with 64 and 0.001 with 96. The encoder's adds less than 0.001 from 16.
FLOW_OVERLAP_LIMIT = 96  # image pixels
ENCODER_OVERLAP_LIMIT = 96  # image pixels, around the flow's
CPU_BUDGET = 2_000_000_000  # bytes
CUDA_BUDGET = 4 << 30  # bytes; windows of that size keep a GPU busy
LARGEST_TILE = 2048
PICTURE_BYTES = 48  # per pixel of the whole picture: as read, as floats, as written
SMALLEST_TILE = 32
CROP_SIDE = 128  # pixels; about a training patch, which stands for an image in the mixture's likelihood
CROPS = 16  # of a reference, or of an image that is restored


class FlowAndEncoder(Protocol):
    """The part of a configuration that says what a flow and its encoder compute."""

    @property
    def flow(self) -> FlowConfig: ...

    @property
    def encoder(self) -> EncoderConfig: ...


class ConditionedFlow(Protocol):
    """A flow and the encoder of its conditioning image: DeFlow, or SRFlow."""

    @property
    def config(self) -> FlowAndEncoder: ...

    @property
    def encoder(self) -> ConditionEncoder | None: ...

    @property
    def flow(self) -> ConditionalFlow: ...


def tiles(height: int, width: int, side: int, across: int | None = None) -> Iterator[Window]:
    """Windows of at most ``side`` that cover an image without overlap, row by row; 0: the whole image.

    across: their width, where it is not their height.
    """
    across = across or side or max(height, width)
    side = side or max(height, width)
    for top in range(0, height, side):
        for left in range(0, width, across):
            yield Window(top, left, min(side, height - top), min(across, width - left))


def crops(height: int, width: int, multiple: int) -> list[Window]:
    """Up to 16 windows of about 128 pixels, spread evenly over an image whose sides are multiples."""
    side = round_up(CROP_SIDE, multiple)
    rows, columns = (_starts(size, side, multiple) for size in (height, width))
    return [Window(top, left, min(side, height), min(side, width)) for top in rows for left in columns]


def _starts(size: int, side: int, multiple: int) -> list[int]:
    if size <= side:
        return [0]
    count = min(-(-size // side), int(CROPS**0.5))
    return [(size - side) * i // (count - 1) // multiple * multiple for i in range(count)]


def around(tile: Window, by: int, height: int, width: int) -> Window:
    """``tile`` with so many pixels around it on each side, moved inwards where the image ends.

    Unlike ``Window.grown`` it gives windows of one size for all tiles of one size, as CUDA graphs need them.

    >>> [around(Window(0, left, 8, 8), 2, height=8, width=32) for left in (0, 8, 24)]  # doctest: +ELLIPSIS
    [Window(top=0, left=0, height=8, width=12), Window(top=0, left=6, ...), Window(top=0, left=20, ...)]
    """
    size = min(tile.height + 2 * by, height), min(tile.width + 2 * by, width)
    top = min(max(tile.top - by, 0), height - size[0])
    left = min(max(tile.left - by, 0), width - size[1])
    return Window(top, left, *size)


def flow_radius(config: ModelConfig) -> int:
    """How far, in pixels, a change can travel: two 3x3 convolutions per step, encoding and decoding."""
    flow = config.flow
    steps = sum(2 * flow.steps * 2**level for level in range(1, flow.levels + 1))
    splits = sum(2**level for level in range(1, flow.levels)) if flow.splits != "none" else 0
    return 2 * (steps + splits)


def encoder_radius(config: ModelConfig) -> int:
    """How far, in image pixels, h reaches the features: 15 convolutions per RRDB block, and the frame."""
    if config.flow.conditioning == "none":
        return 0
    return (15 * config.encoder.blocks + 4) * config.flow.downsample


def overlaps(config: ModelConfig) -> tuple[int, int]:
    """Pixels around a tile: for the flow, and around that for the encoder; multiples of ``size_multiple``."""
    multiple = config.flow.size_multiple
    flow = round_up(min(flow_radius(config), FLOW_OVERLAP_LIMIT), multiple)
    encoder = round_up(min(encoder_radius(config), ENCODER_OVERLAP_LIMIT), multiple)
    return flow, encoder


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def smaller_tile(side: int, multiple: int, device: torch.device, error: Exception) -> int:
    """Half a tile's side, in multiples, after memory ran out by ``error``.

    Raises DeviceError where even the smallest did not fit.
    """
    if side <= SMALLEST_TILE:
        raise DeviceError(
            f"{device}: out of memory even with tiles of {side} pixels{memory_asked(error)}",
            next_step="use --device cpu" if device.type == "cuda" else "close other programs",
        ) from error
    return round_up(side // 2, multiple)


def flow_bytes_per_pixel(model: ConditionedFlow) -> int:
    """Memory that a translation holds at its peak per pixel of a tile, from the channel counts.

    Measured: 2470 bytes of the NTIRE preset, 4170 of AIM, 1430 of base; here 3100, 4540 and 1800.
    """
    flow, encoder = model.config.flow, model.config.encoder
    floats, channels, latents = 6.0 * flow.in_channels, flow.in_channels, dict(_by_factor(model))
    for level in range(1, flow.levels + 1):
        channels, area = channels * 4, 4**level
        if model.encoder is not None:  # the injector's raw output and the coupling's term
            floats += flow.steps * (2 * channels + flow.hidden_channels) / area
            floats += _seen_channels(model, level) / area
        if level < flow.levels:
            channels -= latents.get(2**level, 0)
    transient = (3 * flow.hidden_channels + 8 * 4 * flow.in_channels) / 4
    if model.encoder is not None:
        trunk = encoder.feature_channels + 5 * encoder.channels + 5 * encoder.growth_channels
        upper = 3 * max(encoder.channels, _seen_channels(model, 1)) / 4
        transient = max(transient, trunk / flow.downsample**2 + upper)
        floats += encoder.feature_channels / flow.downsample**2
    return math.ceil(4 * 1.1 * (floats + transient))


def _by_factor(model: ConditionedFlow) -> list[tuple[int, int]]:
    return [(factor, channels) for channels, factor in model.flow.latent_plan]


def _seen_channels(model: ConditionedFlow, level: int) -> int:
    """Channels of the features that are kept at a level's own resolution."""
    assert model.encoder is not None
    finer = 2**level < model.config.flow.downsample and model.encoder.project is None
    return model.config.encoder.channels if finer else model.encoder.feature_channels


def flow_tile_side(
    model: DeFlow, height: int, width: int, device: torch.device, free: int | None = None
) -> int:
    """Side of the largest tile that fits the device's memory; 0 where the whole image does.

    free: bytes of a CPU's memory that are free; None: enough. What the whole picture takes is set aside.
    """
    for_tiles = None if free is None else max(free - PICTURE_BYTES * height * width, 0)
    pixels = memory_budget(device, for_tiles) // flow_bytes_per_pixel(model)
    if height * width <= pixels:
        return 0
    both_sides = 2 * overlaps(model.config)[0]
    side = min(max(math.isqrt(pixels) - both_sides, both_sides // 2, SMALLEST_TILE), LARGEST_TILE)
    return round_up(side, model.size_multiple)


def flow_tile_sides(model: DeFlow, height: int, width: int, budget: int) -> tuple[int, int]:
    """Height and width of tiles within so many bytes that compute the fewest pixels, overlaps included.

    For windows of one size (``around``); (0, 0) where the whole image fits.
    """
    pixels = budget // flow_bytes_per_pixel(model)
    if height * width <= pixels:
        return 0, 0
    by, multiple = overlaps(model.config)[0], model.size_multiple

    def choices(size: int) -> list[tuple[int, int, int]]:
        """Number of tiles along a side, their length, and the length of their windows."""
        lengths = {round_up(-(-size // count), multiple) for count in range(1, -(-size // SMALLEST_TILE) + 1)}
        return [(-(-size // n), n, min(n + 2 * by, size)) for n in lengths if n <= LARGEST_TILE]

    fitting = [
        (rows * columns * tall * wide, high, across)
        for rows, high, tall in choices(height)
        for columns, across, wide in choices(width)
        if tall * wide <= pixels
    ]
    smallest = round_up(max(by, SMALLEST_TILE), multiple)
    return min(fitting)[1:] if fitting else (smallest, smallest)


def memory_budget(device: torch.device, free: int | None = None) -> int:
    """Bytes that a translation may take at its peak. free: of a CPU's memory, in bytes; None: enough."""
    if device.type != "cuda":
        return CPU_BUDGET if free is None else min(CPU_BUDGET, free // 2)
    return min(max(torch.cuda.mem_get_info(device)[0] // 2, CPU_BUDGET // 2), CUDA_BUDGET)
