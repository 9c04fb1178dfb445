"""Layers: convolutions, resizing, padding and RRDB blocks in ONNX, as our modules compute them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deflow_cli.checkpoints.onnx.graph import Graph, count_up, cut, single, weights, whole
from deflow_cli.layers.networks.resize import bicubic_downsample
from deflow_cli.layers.networks.rrdb import RRDB, ResidualDenseBlock

_SLOPE = 0.2  # of the leaky ReLUs


def conv(
    graph: Graph, x: str, weight: Tensor, bias: Tensor | None = None, *, padding: int = 0, stride: int = 1
) -> str:
    """A convolution; weight: O I kh kw, or O I for 1 x 1."""
    kernel = weight[:, :, None, None] if weight.dim() == 2 else weight
    inputs = [weights(kernel)] if bias is None else [weights(kernel), weights(bias)]
    shape = {"kernel_shape": list(kernel.shape[2:]), "pads": [padding] * 4, "strides": [stride] * 2}
    return graph("Conv", x, *inputs, **shape)


def conv_module(graph: Graph, x: str, module: nn.Module) -> str:
    """A convolution as a module of ours has it, with padding that keeps the size."""
    weight, bias = module.get_parameter("weight"), module.get_parameter("bias")
    return conv(graph, x, weight, bias, padding=weight.shape[-1] // 2)


def leaky(graph: Graph, x: str) -> str:
    return graph("LeakyRelu", x, alpha=_SLOPE)


def nearest(graph: Graph, x: str, factor: float) -> str:
    """Nearest neighbour: a factor of 2, 4 ... repeats pixels, of 1/2 takes every second."""
    return _resized(graph, x, factor, mode="nearest", rule="asymmetric", nearest_mode="floor")


def bicubic_enlarged(graph: Graph, x: str, factor: int) -> str:
    """``bicubic_upsample``: the kernel of torch's bicubic (a = -0.75), edge pixels repeated."""
    scales = np.array([1, 1, factor, factor], np.float32)
    rule = {"mode": "cubic", "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.75}
    return graph("Resize", x, "", scales, **rule)


def bilinear(graph: Graph, x: str, factor: float) -> str:
    return _resized(graph, x, factor, mode="linear", rule="half_pixel")


def _resized(
    graph: Graph, x: str, factor: float, *, mode: str, rule: str, nearest_mode: str = "floor"
) -> str:
    scales = np.array([1, 1, factor, factor], np.float32)
    attributes = {"mode": mode, "coordinate_transformation_mode": rule}
    if mode == "nearest":
        attributes["nearest_mode"] = nearest_mode
    return graph("Resize", x, "", scales, **attributes)


def halved(graph: Graph, x: str) -> str:
    """Means of 2 x 2 pixels."""
    return graph("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])


def local_mean(graph: Graph, x: str, side: int) -> str:
    """Means over windows of an odd side, of the pixels that are inside the image."""
    window = {"kernel_shape": [side] * 2, "strides": [1, 1], "pads": [side // 2] * 4}
    return graph("AveragePool", x, count_include_pad=0, **window)


def pixels_to_channels(graph: Graph, x: str, channels: int, factor: int) -> str:
    """``pixel_unshuffle``: channel c, sub-position (i, j) to channel c f^2 + f i + j."""
    stacked = graph("SpaceToDepth", x, blocksize=factor)  # which orders by sub-position, then by channel
    order = np.arange(channels * factor**2).reshape(factor**2, channels).T.flatten()
    return graph("Gather", stacked, order, axis=1)


def channels_to_pixels(graph: Graph, x: str, factor: int) -> str:
    """``pixel_shuffle``."""
    return graph("DepthToSpace", x, blocksize=factor, mode="CRD")


def clamped(graph: Graph, x: str) -> str:
    """To [0, 1]."""
    return graph("Clip", x, single(0.0), single(1.0))


# -- sizes ------------------------------------------------------------------------------------------------


def padded(graph: Graph, image: str, multiple: int) -> str:
    """``pad_to_multiple``: mirrored on the right and below, or the edge repeated where that is too narrow."""
    lengths = [graph("Shape", image, start=axis, end=axis + 1) for axis in (2, 3)]
    missing = [graph("Mod", graph("Neg", length), whole(multiple)) for length in lengths]
    fits = [graph("Less", more, length) for more, length in zip(missing, lengths, strict=True)]
    mirrors = graph("And", *fits)
    for axis, length, more in zip((2, 3), lengths, missing, strict=True):
        place = count_up(graph, graph("Add", length, more))
        last = graph("Sub", length, whole(1))
        mirrored = graph("Sub", last, graph("Abs", graph("Sub", place, last)))
        repeated = graph("Min", place, last)
        image = graph("Gather", image, graph("Where", mirrors, mirrored, repeated), axis=axis)
    return image


def mirrored(graph: Graph, x: str, border: int) -> str:
    """So many pixels more on each side, mirrored without the edge; of images of more pixels than that."""
    pads = [0, 0, border, border] * 2
    return graph("Pad", x, whole(*pads), mode="reflect")


def bicubic(graph: Graph, image: str, factor: int) -> str:
    """``bicubic_downsample`` without rounding, of sides that are multiples of the factor."""
    for axis in (2, 3):
        image = _bicubic_axis(graph, image, factor, axis)
    return image


def _bicubic_axis(graph: Graph, image: str, factor: int, axis: int) -> str:
    taps = bicubic_taps(factor)
    border = len(taps) // 2 - factor // 2  # pixels that the first output's kernel reaches over the edge
    length = graph("Shape", image, start=axis, end=axis + 1)
    twice = graph("Mul", length, whole(2))
    place = graph("Sub", count_up(graph, graph("Add", length, whole(2 * border))), whole(border))
    place = graph("Mod", place, twice)  # never negative, as Python's
    mirrored = graph("Sub", graph("Sub", twice, whole(1)), place)
    image = graph("Gather", image, graph("Min", place, mirrored), axis=axis)
    shape, strides = ([len(taps), 1], [factor, 1]) if axis == 2 else ([1, len(taps)], [1, factor])
    kernel = np.tile(taps.reshape(1, 1, *shape), (3, 1, 1, 1))
    return graph("Conv", image, kernel, kernel_shape=shape, strides=strides, group=3)


def bicubic_taps(factor: int) -> NDArray[np.float32]:
    """The antialiased kernel of an output pixel, from what ``bicubic_downsample`` makes of single pixels."""
    length = 8 * factor
    impulses = torch.eye(length).view(length, 1, 1, length)
    response = bicubic_downsample(impulses, factor)[:, 0, 0, 4]
    first, last = 4 * factor + factor // 2 - 2 * factor, 4 * factor + factor // 2 + 2 * factor
    assert float(response[:first].abs().sum() + response[last:].abs().sum()) == 0
    return weights(response[first:last])


# -- RRDB blocks ------------------------------------------------------------------------------------------


def rrdb(graph: Graph, x: str, block: RRDB) -> str:
    """x + 0.2 times the three dense blocks."""
    inner = x
    for dense in (block.rdb1, block.rdb2, block.rdb3):
        inner = _dense(graph, inner, dense)
    return _small_step(graph, x, inner)


def _dense(graph: Graph, x: str, block: ResidualDenseBlock) -> str:
    stack = [x]
    for index in range(1, 5):
        stack.append(
            leaky(graph, conv_module(graph, _joined(graph, stack), block.get_submodule(f"conv{index}")))
        )
    return _small_step(graph, x, conv_module(graph, _joined(graph, stack), block.get_submodule("conv5")))


def _small_step(graph: Graph, x: str, change: str) -> str:
    return graph("Add", x, graph("Mul", change, single(0.2)))


def _joined(graph: Graph, parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else graph("Concat", *parts, axis=1)


def channels_between(graph: Graph, x: str, first: int, end: int | None) -> str:
    """Channels first .. end - 1."""
    return cut(graph, x, 1, first, end)
