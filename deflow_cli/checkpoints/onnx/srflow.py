"""SRFlow as an ONNX graph with one image input: one super-resolution of each image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from deflow_cli.checkpoints.onnx.flow import OnnxFlow, encoder_features
from deflow_cli.checkpoints.onnx.graph import Graph, GraphInput, cut, shape_of, side, single, whole
from deflow_cli.checkpoints.onnx.layers import bicubic, bicubic_enlarged, clamped, local_mean, padded
from deflow_cli.checkpoints.onnx.noise import NoiseField, NoiseSource
from deflow_cli.errors import CheckpointError
from deflow_cli.models.srflow.enlarging import BACK_PROJECTIONS
from deflow_cli.models.srflow.model import SRFlow

_DESCRIPTION = "Samples of super-resolutions, RGB in [0, 1]."


@torch.no_grad()
def write_onnx_srflow(
    path: Path,
    model: SRFlow,
    noise: NoiseSource,
    facts: Mapping[str, str],
    *,
    temperature: float,
    fixed: bool = False,
) -> int:
    """Write an SRFlow as a file of ONNX; returns its size in bytes.

    The graph takes ``image`` (N x 3 x H x W, float32 in [0, 1], any N, H and W) and gives ``restored``, one
    sample of each, N x 3 x scale H x scale W in [0, 1]. The other arguments are those of a degrader's graph.
    Raises CheckpointError for a model of other channels.
    """
    if model.config.srflow.image_channels != 3:
        raise CheckpointError(
            f"an SRFlow of {model.config.srflow.image_channels} channels has no form in ONNX"
        )
    graph = Graph("deflow-srflow", fixed=fixed)
    image = graph.input(GraphInput("image", np.float32, ("N", 3, "H", "W")))
    heat = graph.input(GraphInput("temperature", np.float32, (1,), np.array([temperature], np.float32)))
    x = padded(graph, image, model.size_multiple)
    flow = OnnxFlow(
        graph, model.flow, encoder_features(graph, model.encoder, _encoder_input(graph, model, x))
    )
    fields = _fields(graph, model, x)
    drawn = noise.draw(graph, x, fields)
    y = flow.decode([graph("Mul", drawn[field.name], heat) for field in fields])
    base = _base(graph, model, x)
    y = y if base is None else graph("Add", y, base)
    for axis in (2, 3):
        y = cut(graph, y, axis, 0, graph("Mul", side(graph, image, axis), whole(model.scale)))
    output = GraphInput("restored", np.float32, ("N", 3, f"{model.scale}H", f"{model.scale}W"))
    return graph.write(path, clamped(graph, y), output, facts, _DESCRIPTION)


def _fields(graph: Graph, model: SRFlow, x: str) -> list[NoiseField]:
    """The latents' normals, by the names of ``inference.positional_noise.LatentNoise``."""
    sides = [graph("Mul", side(graph, x, axis), whole(model.scale)) for axis in (2, 3)]
    fields = []
    for index, (channels, factor) in enumerate(model.flow.latent_plan):
        height, width = (graph("Div", length, whole(factor)) for length in sides)
        stream = f"latent {index} sample 0"
        fields.append(NoiseField(f"noise_latent_{index}", "normal", stream, True, channels, height, width))
    return fields


def _encoder_input(graph: Graph, model: SRFlow, x: str) -> str:
    """``SRFlow.encoder_input``, without noise on y."""
    seen = [x]
    if model.config.srflow.is_told_strength:
        shape = shape_of(graph, side(graph, x, 0), 1, side(graph, x, 2), side(graph, x, 3))
        seen.append(graph("Expand", single(0.0), shape))
    if model.config.srflow.contrast:
        seen.append(_local_contrast(graph, x))
    return graph("Concat", *seen, axis=1) if len(seen) > 1 else x


def _local_contrast(graph: Graph, x: str) -> str:
    gray = graph("Mul", graph("ReduceMean", x, whole(1)), single(255.0))
    mean = local_mean(graph, gray, 3)
    variance = graph("Sub", local_mean(graph, graph("Mul", gray, gray), 3), graph("Mul", mean, mean))
    deviation = graph("Sqrt", graph("Max", variance, single(0.0)))
    return graph("Mul", graph("Log", graph("Add", deviation, single(1.0))), single(0.25 / np.log(2.0)))


def _base(graph: Graph, model: SRFlow, x: str) -> str | None:
    """``enlarged``: what is added to the flow's image."""
    how = model.config.srflow.residual
    if how == "none":
        return None
    y = bicubic_enlarged(graph, x, model.scale)
    for _ in range(BACK_PROJECTIONS if how == "consistent" else 0):
        missing = graph("Sub", x, bicubic(graph, y, model.scale))
        y = graph("Add", y, bicubic_enlarged(graph, missing, model.scale))
    return y
