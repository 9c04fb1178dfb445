"""Translator: a network of DSGAN, DASR or CycleGAN as an ONNX graph with one image input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from deflow_cli.checkpoints.onnx.graph import Graph, GraphInput, cut, side, single, weights, whole
from deflow_cli.checkpoints.onnx.layers import clamped, conv, mirrored, padded
from deflow_cli.errors import CheckpointError
from deflow_cli.models.translation.generators import (
    CycleBlock,
    CycleGenerator,
    Generator,
    ResidualBlock,
    ResidualGenerator,
)

_DESCRIPTION = "Clean photographs to degraded ones, one answer for each, RGB in [0, 1]."


@torch.no_grad()
def write_onnx_translator(path: Path, generator: Generator, facts: Mapping[str, str]) -> int:
    """Write a generator as a file of ONNX; returns its size in bytes.

    The graph takes ``image`` (N x 3 x H x W, float32 in [0, 1], any N, H and W that the network takes) and
    gives ``degraded``, N x 3 x ceil(H / scale) x ceil(W / scale) in [0, 1]. facts: the file's metadata.
    Raises CheckpointError for a layer that has no form here.
    """
    graph = Graph("deflow-translator")
    image = graph.input(GraphInput("image", np.float32, ("N", 3, "H", "W")))
    x = padded(graph, image, generator.multiple)
    if isinstance(generator, CycleGenerator):
        y = _cycle(graph, generator, x)
    else:
        y = _residual(graph, generator, x)
    scale = generator.scale
    for axis in (2, 3):
        length = graph("Div", graph("Add", side(graph, image, axis), whole(scale - 1)), whole(scale))
        y = cut(graph, y, axis, 0, length)
    height, width = ("H", "W") if scale == 1 else ("small_H", "small_W")
    output = GraphInput("degraded", np.float32, ("N", 3, height, width))
    return graph.write(path, clamped(graph, y), output, facts, _DESCRIPTION)


def _residual(graph: Graph, generator: ResidualGenerator, x: str) -> str:
    """``ResidualGenerator.forward`` of images that need no padding."""
    for part in (generator.head, generator.body, generator.down, generator.tail):
        x = _layer(graph, part, x)
    return graph("Sigmoid", x)


def _cycle(graph: Graph, generator: CycleGenerator, x: str) -> str:
    """``CycleGenerator.forward`` of images that need no padding."""
    x = graph("Sub", graph("Mul", x, single(2.0)), single(1.0))
    y = graph("Tanh", _layer(graph, generator.layers, x))
    return graph("Div", graph("Add", y, single(1.0)), single(2.0))


def _layer(graph: Graph, layer: nn.Module, x: str) -> str:
    """A layer, or all that it is made of."""
    for kind, translated in _LAYERS.items():
        if isinstance(layer, kind):
            return translated(graph, layer, x)
    raise CheckpointError(f"a layer {type(layer).__name__} has no form in ONNX")


def _chain(graph: Graph, layers: nn.Module, x: str) -> str:
    for layer in layers.children():
        x = _layer(graph, layer, x)
    return x


def _around(graph: Graph, block: nn.Module, x: str) -> str:
    """x + the layers of a block, one after the other."""
    return graph("Add", x, _chain(graph, block, x))


def _conv(graph: Graph, layer: nn.Module, x: str) -> str:
    assert isinstance(layer, nn.Conv2d)
    padding, stride = layer.padding[0], layer.stride[0]
    return conv(graph, x, layer.weight, layer.bias, padding=int(padding), stride=stride)


def _conv_up(graph: Graph, layer: nn.Module, x: str) -> str:
    assert isinstance(layer, nn.ConvTranspose2d)
    bias = [] if layer.bias is None else [weights(layer.bias)]
    sizes = {
        "kernel_shape": list(layer.kernel_size),
        "strides": list(layer.stride),
        "pads": [int(layer.padding[0])] * 4,
        "output_padding": list(layer.output_padding),
    }
    return graph("ConvTranspose", x, weights(layer.weight), *bias, **sizes)


def _prelu(graph: Graph, layer: nn.Module, x: str) -> str:
    return graph("PRelu", x, weights(layer.get_parameter("weight")))


def _instance_norm(graph: Graph, layer: nn.Module, x: str) -> str:
    """Each channel of each image to mean 0 and variance 1, over all its pixels."""
    assert isinstance(layer, nn.InstanceNorm2d)
    ones = np.ones(layer.num_features, np.float32)
    return graph("InstanceNormalization", x, ones, np.zeros_like(ones), epsilon=layer.eps)


def _mirrored(graph: Graph, layer: nn.Module, x: str) -> str:
    assert isinstance(layer, nn.ReflectionPad2d)
    return mirrored(graph, x, layer.padding[0])


_LAYERS: dict[type[nn.Module], Callable[[Graph, nn.Module, str], str]] = {
    nn.Sequential: _chain,
    ResidualBlock: _around,
    CycleBlock: _around,
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _conv_up,
    nn.PReLU: _prelu,
    nn.ReLU: lambda graph, layer, x: graph("Relu", x),
    nn.InstanceNorm2d: _instance_norm,
    nn.ReflectionPad2d: _mirrored,
}
