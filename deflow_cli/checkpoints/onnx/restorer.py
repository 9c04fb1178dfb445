"""Restorer: an ESRGAN generator as an ONNX graph with one image input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch

from deflow_cli.checkpoints.onnx.graph import Graph, GraphInput, cut, side, whole
from deflow_cli.checkpoints.onnx.layers import (
    clamped,
    conv_module,
    leaky,
    nearest,
    padded,
    pixels_to_channels,
    rrdb,
)
from deflow_cli.errors import CheckpointError
from deflow_cli.layers.networks.rrdb import RRDB
from deflow_cli.models.esrgan.generator import RRDBNet

_DESCRIPTION = "A restorer: degraded photographs to good ones, RGB in [0, 1]."


@torch.no_grad()
def write_onnx_restorer(path: Path, model: RRDBNet, facts: Mapping[str, str]) -> int:
    """Write a generator as a file of ONNX; returns its size in bytes.

    The graph takes ``image`` (N x 3 x H x W, float32 in [0, 1], any N, H and W) and gives ``restored``, N x 3
    x scale H x scale W in [0, 1]. A generator of one channel restores each channel alone. Raises
    CheckpointError for other channels.
    """
    channels = model.config.image_channels
    if channels not in (1, 3):
        raise CheckpointError(f"a restorer of {channels} channels has no form in ONNX")
    graph = Graph("deflow-restorer")
    image = graph.input(GraphInput("image", np.float32, ("N", 3, "H", "W")))
    x = padded(graph, image, model.multiple)
    if channels == 1:
        x = graph("Reshape", x, graph("Concat", whole(-1, 1), graph("Shape", x, start=2), axis=0))
    y = _generated(graph, model, x)
    if channels == 1:
        y = graph("Reshape", y, graph("Concat", whole(-1, 3), graph("Shape", y, start=2), axis=0))
    for axis in (2, 3):
        y = cut(graph, y, axis, 0, graph("Mul", side(graph, image, axis), whole(model.scale)))
    height, width = (name if model.scale == 1 else f"{model.scale}{name}" for name in "HW")
    output = GraphInput("restored", np.float32, ("N", 3, height, width))
    return graph.write(path, clamped(graph, y), output, facts, _DESCRIPTION)


def _generated(graph: Graph, model: RRDBNet, x: str) -> str:
    """``RRDBNet.forward`` of images that need no padding."""
    if model.multiple > 1:
        x = pixels_to_channels(graph, x, model.config.image_channels, model.multiple)
    x = conv_module(graph, x, model.conv_first)
    inner = x
    for block in model.body:
        inner = rrdb(graph, inner, cast(RRDB, block))
    x = graph("Add", x, conv_module(graph, inner, model.conv_body))
    for index in range(1, model.config.doublings + 1):
        x = leaky(graph, conv_module(graph, nearest(graph, x, 2), model.get_submodule(f"conv_up{index}")))
    return conv_module(graph, leaky(graph, conv_module(graph, x, model.conv_hr)), model.conv_last)
