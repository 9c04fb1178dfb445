"""Degrader: a degradation model as an ONNX graph with one image input (DeFlow, CVPR 2021, eq. 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from deflow_cli.checkpoints.onnx.flow import OnnxFlow, encoder_features
from deflow_cli.checkpoints.onnx.graph import (
    Graph,
    GraphInput,
    Value,
    cut,
    side,
    single,
    weights,
    whole,
)
from deflow_cli.checkpoints.onnx.layers import (
    bicubic,
    bilinear,
    clamped,
    conv,
    halved,
    local_mean,
    padded,
)
from deflow_cli.checkpoints.onnx.noise import COMPONENT_FIELD, LEVEL_FIELD, NoiseField, NoiseSource
from deflow_cli.errors import CheckpointError
from deflow_cli.models.deflow.grain import GUIDE_NOISE, GUIDE_SCALE, KERNEL_SIDE, Grain
from deflow_cli.models.deflow.latent import SharedLatent
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution

IMAGE, DEGRADED_IMAGE, TEMPERATURE = "image", "degraded", "temperature"
_GRAY_LEVELS = 255.0  # the images' step is 1 / this, which the dequantisation fills
_SMOOTHING = 5  # px; side of the window of the grain's guide
_DESCRIPTION = "Clean photographs to degraded ones of the same size, RGB in [0, 1]. Purpose: Restoration, x1."


@torch.no_grad()
def write_onnx_degrader(
    path: Path,
    model: DeFlow,
    noise: NoiseSource,
    facts: Mapping[str, str],
    *,
    temperature: float = 1.0,
    fixed: bool = False,
) -> int:
    """Write a degradation model as a file of ONNX; returns its size in bytes.

    The graph takes ``image`` (N x 3 x H x W, float32 in [0, 1], any N, H and W) and gives ``degraded``, of
    that shape and range. ``temperature`` (one number) and what the noise adds may be passed too. temperature:
    its default. fixed: nothing that has a default may be passed. facts: the file's metadata. Raises
    CheckpointError for a model that has no such form.
    """
    if model.config.flow.in_channels != 3:
        raise CheckpointError(f"a model of {model.config.flow.in_channels} channels has no form in ONNX")
    graph = Graph("deflow", fixed=fixed)
    axes = ("N", 3, "H", "W")
    image = graph.input(GraphInput(IMAGE, np.float32, axes))
    heat = graph.input(GraphInput(TEMPERATURE, np.float32, (1,), np.array([temperature], np.float32)))
    result = _Degradation(graph, model, clamped(graph, image), heat, noise).result()
    return graph.write(path, result, GraphInput(DEGRADED_IMAGE, np.float32, axes), facts, _DESCRIPTION)


class _Degradation:
    """The computation of ``inference.sampling.translator.Translator`` on a whole image, in a graph."""

    def __init__(self, graph: Graph, model: DeFlow, image: str, heat: str, noise: NoiseSource) -> None:
        self._graph, self._model, self._image, self._heat = graph, model, image, heat
        self._padded = padded(graph, image, model.size_multiple)
        self._height, self._width = side(graph, self._padded, 2), side(graph, self._padded, 3)
        self._shift = ShiftDistribution(model.prior)
        grain = model.grain
        self._grain = grain if grain is not None and bool(grain.matched) else None
        self._noise = noise.draw(graph, self._padded, self._fields())

    def result(self) -> str:
        """The degraded image, of the size that was given."""
        graph, model = self._graph, self._model
        features: list[str] = []
        if model.encoder is not None:
            h = bicubic(graph, self._padded, model.config.flow.downsample)
            noisy = graph("Mul", self._noise["noise_h"], single(model.config.flow.h_noise))
            features = encoder_features(graph, model.encoder, graph("Add", h, noisy))
        flow = OnnxFlow(graph, model.flow, features)
        x = graph(
            "Add", self._padded, graph("Div", self._noise["noise_dequantisation"], single(_GRAY_LEVELS))
        )
        latents = flow.encode(x, model.config.flow.in_channels)
        if self._grain is None:
            y = self._decoded(flow, latents, with_noise=True)
        else:
            y = self._grained(self._grain, flow, latents)
        return clamped(graph, self._cropped(y))

    def _cropped(self, y: str) -> str:
        for axis in (2, 3):
            y = cut(self._graph, y, axis, 0, side(self._graph, self._image, axis))
        return y

    # -- the shift ----------------------------------------------------------------------------------------

    def _decoded(self, flow: OnnxFlow, latents: Sequence[str], *, with_noise: bool) -> str:
        shifted = [
            self._shifted(index, latent, z, with_noise)
            for index, (latent, z) in enumerate(zip(self._model.prior.shared(), latents, strict=True))
        ]
        return self._to_degraded(flow.decode(shifted))

    def _shifted(self, index: int, latent: SharedLatent, z: str, with_noise: bool) -> str:
        """A z + mean + T M e (``ShiftDistribution.degrade``)."""
        graph = self._graph
        kept = z if latent.gain is None else conv(graph, z, latent.gain)
        probabilities = self._shift.probabilities.to(latent.mean)
        centre = torch.einsum("k,kc->c", probabilities, latent.mean)
        off_centre = self._of_component(weights(latent.mean - centre))
        mean = graph("Add", graph("Mul", off_centre, self._heat), weights(centre))
        z = graph("Add", kept, graph("Unsqueeze", mean, whole(2, 3)))
        if not with_noise:
            return z
        root = graph("Mul", self._of_component(weights(latent.root_matrix())), self._heat)
        noise = self._noise[f"noise_latent_{index}"]
        flat = graph("MatMul", root, graph("Reshape", noise, whole(0, 0, -1)))
        return graph("Add", z, graph("Reshape", flat, graph("Shape", noise)))

    def _of_component(self, table: Value) -> str:
        """The rows of a table that the images' components select: N x ..."""
        graph = self._graph
        if self._model.prior.components == 1:
            batch = side(graph, self._image, 0)
            return graph("Gather", table, graph("Expand", whole(0), batch), axis=0)
        bounds = torch.cumsum(self._shift.probabilities, 0).numpy()
        uniform = graph("Unsqueeze", self._noise[COMPONENT_FIELD], whole(1))
        above = graph("Cast", graph("GreaterOrEqual", uniform, bounds[:-1]), to=7)
        return graph("Gather", table, graph("ReduceSum", above, whole(1), keepdims=0), axis=0)

    def _to_degraded(self, y: str) -> str:
        """The degraded set's statistics (``DomainStatistics.to_degraded``)."""
        statistics = self._model.statistics
        if not statistics.active:
            return y
        offset = statistics.to_degraded(torch.zeros(1, 3, 1, 1))
        of_each_input = statistics.to_degraded(torch.eye(3)[..., None, None]) - offset
        return conv(self._graph, y, of_each_input.transpose(0, 1), offset.flatten())

    # -- grain --------------------------------------------------------------------------------------------

    def _grained(self, grain: Grain, flow: OnnxFlow, latents: Sequence[str]) -> str:
        """y_0 + T s O^T (g * O n) (``models.deflow.grain``)."""
        graph = self._graph
        mean = self._decoded(flow, latents, with_noise=False)
        if bool(grain.stationary):
            # a convolution turns the filter round, ONNX's does not
            pattern = conv(graph, self._noise["noise_grain"], grain.kernel_oiyx.flip(2, 3))
            pattern = graph("Mul", pattern, self._heat)
        else:
            pattern = graph("Sub", self._decoded(flow, latents, with_noise=True), mean)
        if float(grain.spread):
            level = graph("Exp", graph("Mul", self._noise[LEVEL_FIELD], single(float(grain.spread))))
            pattern = graph("Mul", pattern, graph("Reshape", level, whole(-1, 1, 1, 1)))
        opponents = graph("Mul", self._gain(grain), conv(graph, pattern, grain.basis))
        return graph("Add", mean, conv(graph, opponents, grain.basis.T))

    def _gain(self, grain: Grain) -> str:
        """g of the opponent channels at each pixel (``Grain.gain``): N 3 H W."""
        graph = self._graph
        grey = graph("ReduceMean", self._padded, whole(1))
        guide = halved(graph, graph("Mul", grey, single(_GRAY_LEVELS)))
        deviation = GUIDE_NOISE * _GRAY_LEVELS / 3**0.5
        guide = graph("Add", guide, graph("Mul", self._noise["noise_guide"], single(deviation)))
        energy = _smooth(graph, graph("Add", *(_squared_slope(graph, guide, axis) for axis in (2, 3))))
        texture = graph("Log", graph("Max", energy, single(1e-6)))
        row, down = _place(graph, _smooth(graph, guide), weights(grain.brightness))
        column, right = _place(graph, texture, weights(grain.texture))
        channels, rows, columns = grain.gain_cbt.shape
        table = weights(grain.gain_cbt.flatten())
        corner = graph("Add", graph("Mul", row, whole(columns)), column)
        start_of_table = rows * columns * np.arange(channels).reshape(1, channels, 1, 1)
        corner = graph("Add", corner, start_of_table)
        low, high = (
            _between(
                graph,
                graph("Gather", table, graph("Add", corner, whole(step))),
                graph("Gather", table, graph("Add", corner, whole(step + 1))),
                right,
            )
            for step in (0, columns)
        )
        return bilinear(graph, _between(graph, low, high, down), GUIDE_SCALE)

    # -- noise --------------------------------------------------------------------------------------------

    def _fields(self) -> list[NoiseField]:
        """All that is random, by the names of our streams (``inference.sampling.image_noise.ImageNoise``)."""
        model, grain = self._model, self._grain
        fields = [
            NoiseField(
                "noise_dequantisation",
                "uniform",
                "dequantisation",
                channels=3,
                height=self._height,
                width=self._width,
            )
        ]
        if model.encoder is not None:
            fields.append(self._field("noise_h", "h", 3, model.config.flow.downsample))
        if grain is None or not bool(grain.stationary):
            fields += [
                self._field(f"noise_latent_{index}", f"latent {index} sample 0", channels, factor, True)
                for index, (channels, factor) in enumerate(model.flow.latent_plan)
            ]
        if grain is not None:
            fields.append(self._field("noise_guide", "guide", 1, GUIDE_SCALE))
            if bool(grain.stationary):
                fields.append(self._field("noise_grain", "grain sample 0", 3, 1, True, KERNEL_SIDE - 1))
            if float(grain.spread):
                fields.append(NoiseField(LEVEL_FIELD, "level", of_sample=True))
        if model.prior.components > 1:
            fields.append(NoiseField(COMPONENT_FIELD, "component", of_sample=True))
        return fields

    def _field(
        self, name: str, stream: str, channels: int, factor: int, of_sample: bool = False, more: int = 0
    ) -> NoiseField:
        height, width = (
            self._graph("Add", self._graph("Div", length, whole(factor)), whole(more))
            for length in (self._height, self._width)
        )
        return NoiseField(name, "normal", stream, of_sample, channels, height, width)


def _squared_slope(graph: Graph, guide: str, axis: int) -> str:
    """Squared differences to the next pixel along an axis, 0 at its end."""
    last = graph("Sub", side(graph, guide, axis), whole(1))
    slope = graph("Sub", cut(graph, guide, axis, 1, None), cut(graph, guide, axis, 0, last))
    ends = [0] * 8
    ends[4 + axis] = 1
    slope = graph("Pad", slope, whole(*ends), single(0.0))
    return graph("Mul", slope, slope)


def _smooth(graph: Graph, x: str) -> str:
    return local_mean(graph, x, _SMOOTHING)


def _place(
    graph: Graph, values: str, knots: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> tuple[str, str]:
    """Index of the knot below each value, and the share of the way to the next (``grain.places``)."""
    held = graph("Clip", values, single(knots[0]), single(knots[-1]))
    above = graph("Less", knots[1:-1], graph("Unsqueeze", held, whole(4)))
    below = graph("ReduceSum", graph("Cast", above, to=7), whole(4), keepdims=0)
    start = graph("Gather", knots, below)
    return below, graph("Div", graph("Sub", held, start), graph("Gather", np.diff(knots), below))


def _between(graph: Graph, start: str, end: str, share: str) -> str:
    rest = graph("Sub", single(1.0), share)
    return graph("Add", graph("Mul", start, rest), graph("Mul", end, share))
