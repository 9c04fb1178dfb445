"""Flow: an invertible flow in ONNX, encoding and decoding, and the features that it sees of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from deflow_cli.checkpoints.onnx.graph import Graph, single
from deflow_cli.checkpoints.onnx.layers import (
    channels_between,
    channels_to_pixels,
    conv,
    conv_module,
    halved,
    leaky,
    nearest,
    pixels_to_channels,
    rrdb,
)
from deflow_cli.errors import CheckpointError
from deflow_cli.kernels.reference import ScaleForm
from deflow_cli.layers.invertible.base import Bijection
from deflow_cli.layers.invertible.coupling import FlowStep, LinearStep
from deflow_cli.layers.invertible.flow import ConditionalFlow
from deflow_cli.layers.invertible.split import Split
from deflow_cli.layers.invertible.squeeze import Squeeze
from deflow_cli.layers.networks.condition_encoder import ConditionEncoder
from deflow_cli.layers.networks.conditioned import CouplingNet
from deflow_cli.layers.networks.rrdb import RRDB


class OnnxFlow:
    """A flow's layers as operators of a graph. What depends on the features alone is in the graph once.

    features: of each level, finest first; empty for an unconditional flow.
    """

    def __init__(self, graph: Graph, flow: ConditionalFlow, features: Sequence[str]) -> None:
        self._graph, self._flow, self._features = graph, flow, features
        self._terms: dict[CouplingNet, str] = {}  # what the features add to a network's first convolution
        self._injected: dict[CouplingNet, tuple[str, str]] = {}

    def encode(self, x: str, in_channels: int) -> list[str]:
        """The latents, finest first."""
        graph, z, channels = self._graph, x, in_channels
        latents = []
        for layer, level in self._layers():
            if isinstance(layer, Squeeze):
                z = pixels_to_channels(graph, z, channels, 2)
                channels *= 4
            elif isinstance(layer, Split):
                z, latent = self._split(layer, z)
                latents.append(latent)
                channels = layer.kept_channels
            else:
                z = self._encode_step(_step(layer), level, z)
        return [*latents, z]

    def decode(self, latents: Sequence[str]) -> str:
        """The image of latents."""
        graph = self._graph
        *ended, z = latents
        for layer, level in reversed(self._layers()):
            if isinstance(layer, Squeeze):
                z = channels_to_pixels(graph, z, 2)
            elif isinstance(layer, Split):
                z = self._joined(layer, z, ended.pop())
            else:
                z = self._decode_step(_step(layer), level, z)
        return z

    def _layers(self) -> list[tuple[Bijection, int]]:
        return list(zip(self._flow.bijections(), self._flow.level_of_layer, strict=True))

    # -- steps --------------------------------------------------------------------------------------------

    def _encode_step(self, step: LinearStep, level: int, z: str) -> str:
        weight, bias, _ = step.folded()
        z = conv(self._graph, z, weight, bias)
        if isinstance(step, FlowStep):
            z = self._changed(step, level, z, self._order(step), divides=step.variant.encoding == "divide")
        return z

    def _decode_step(self, step: LinearStep, level: int, z: str) -> str:
        if isinstance(step, FlowStep):
            order = self._order(step)[::-1]
            z = self._changed(step, level, z, order, divides=step.variant.encoding != "divide")
        weight, bias, _ = step.folded_inverse()
        return conv(self._graph, z, weight, bias)

    def _order(self, step: FlowStep) -> list[str]:
        """The nonlinear parts of a step, in the order in which encoding applies them."""
        return ["coupling", "injector"] if step.variant.injector == "after" else ["injector", "coupling"]

    def _changed(self, step: FlowStep, level: int, z: str, order: Sequence[str], *, divides: bool) -> str:
        apply = self._divided if divides else self._multiplied
        for part in order:
            if part == "injector":
                z = apply(z, self._injector(step, level))
                continue
            z1 = channels_between(self._graph, z, 0, step.z1_channels)
            z2 = channels_between(self._graph, z, step.z1_channels, None)
            affine = self._affine(step.coupling, self._hidden(step.coupling, level, z1), step.coupling_form)
            z = self._graph("Concat", z1, apply(z2, affine), axis=1)
        return z

    def _injector(self, step: FlowStep, level: int) -> tuple[str, str] | None:
        """Shift and scale of a step's injector; None in an unconditional flow."""
        net = step.injector
        if net is None:
            return None
        if net not in self._injected:
            hidden = self._hidden(net, level, None)
            self._injected[net] = self._affine(net, hidden, step.scale_form)
        return self._injected[net]

    def _divided(self, z: str, affine: tuple[str, str] | None) -> str:
        if affine is None:
            return z
        shift, scale = affine
        return self._graph("Sub", self._graph("Div", z, scale), shift)

    def _multiplied(self, z: str, affine: tuple[str, str] | None) -> str:
        if affine is None:
            return z
        shift, scale = affine
        return self._graph("Mul", self._graph("Add", z, shift), scale)

    # -- their networks -----------------------------------------------------------------------------------

    def _hidden(self, net: CouplingNet, level: int, z1: str | None) -> str:
        graph, folded = self._graph, net.folded()
        x = None if not self._features else self._term(net, level)
        if z1 is not None:
            seen = conv(graph, z1, folded.first, None if x else folded.first_bias, padding=1)
            x = seen if x is None else graph("Add", seen, x)
        assert x is not None
        return graph("Relu", conv(graph, graph("Relu", x), folded.mid, folded.mid_bias))

    def _term(self, net: CouplingNet, level: int) -> str:
        if net not in self._terms:
            weight, bias = net.norm_in.into(net.weight_in[:, net.z_channels :])
            self._terms[net] = conv(self._graph, self._features[level - 1], weight, bias, padding=1)
        return self._terms[net]

    def _affine(self, net: CouplingNet, hidden: str, form: ScaleForm) -> tuple[str, str]:
        """Shift and scale of a network's last convolution."""
        graph, folded = self._graph, net.folded()
        shift, raw = self._halves(hidden, folded.out, folded.out_bias)
        if form.kind == "published":
            return shift, graph("Add", graph("Sigmoid", graph("Add", raw, single(2.0))), single(form.eps))
        bent = graph("Atan", graph("Div", raw, single(form.bound)))
        return shift, graph("Exp", graph("Mul", bent, single(form.bound)))

    def _halves(self, x: str, weight: Tensor, bias: Tensor) -> tuple[str, str]:
        """The even and the odd channels of a 3 x 3 convolution."""
        even, odd = (conv(self._graph, x, weight[first::2], bias[first::2], padding=1) for first in (0, 1))
        return even, odd

    # -- splits -------------------------------------------------------------------------------------------

    def _split(self, layer: Split, z: str) -> tuple[str, str]:
        graph = self._graph
        z1 = channels_between(graph, z, 0, layer.kept_channels)
        z2 = channels_between(graph, z, layer.kept_channels, None)
        mean, logs = self._halves(z1, *layer.conv.folded())
        scale = graph("Add", graph("Exp", logs), single(layer.eps))
        return z1, graph("Div", graph("Sub", z2, mean), scale)

    def _joined(self, layer: Split, z1: str, latent: str) -> str:
        graph = self._graph
        mean, logs = self._halves(z1, *layer.conv.folded())
        z2 = graph("Add", graph("Mul", latent, graph("Exp", logs)), mean)
        return graph("Concat", z1, z2, axis=1)


def _step(layer: Bijection) -> LinearStep:
    if not isinstance(layer, LinearStep):
        raise CheckpointError(f"a layer {type(layer).__name__} has no form in ONNX")
    return layer


# -- the features -----------------------------------------------------------------------------------------


def encoder_features(graph: Graph, encoder: ConditionEncoder, h: str) -> list[str]:
    """The features of each level, finest first, as ``ConditionEncoder.forward`` has them."""
    x = conv_module(graph, h, encoder.conv_first)
    outputs = {}
    for index, block in enumerate(encoder.body):
        x = outputs[index] = rrdb(graph, x, cast(RRDB, block))
    trunk = graph("Add", x, conv_module(graph, x, encoder.conv_body))
    stacked = [outputs[index] for index in encoder.config.stacked_blocks]
    pyramid = {0: trunk}  # by powers of two that it is larger than h
    for power in range(1, encoder.up_convs + 1):
        enlarged = nearest(graph, pyramid[power - 1], 2)
        pyramid[power] = leaky(graph, conv_module(graph, enlarged, encoder.get_submodule(f"conv_up{power}")))
    for power in range(-1, encoder.log2_downsample - encoder.levels - 1, -1):
        pyramid[power] = halved(graph, pyramid[power + 1])
    return [
        _level(graph, encoder, level, pyramid[encoder.log2_downsample - level], stacked)
        for level in range(1, encoder.levels + 1)
    ]


def _level(graph: Graph, encoder: ConditionEncoder, level: int, own: str, stacked: Sequence[str]) -> str:
    power = encoder.log2_downsample - level
    low = graph("Concat", *stacked, axis=1) if len(stacked) > 1 else stacked[0]
    if power < 0:
        low = nearest(graph, low, 2.0**power)
    if encoder.project is None:
        return graph("Concat", own, nearest(graph, low, 2.0**power) if power > 0 else low, axis=1)
    # a 1x1 convolution commutes with nearest-neighbour resizing
    weight = encoder.project[level - 1].get_parameter("weight")
    channels = encoder.config.channels
    projected = conv(graph, own, weight[:, :channels])
    below = conv(graph, low, weight[:, channels:])
    return graph("Add", projected, nearest(graph, below, 2.0**power) if power > 0 else below)
