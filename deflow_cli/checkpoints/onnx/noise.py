"""Noise: where the random numbers of an ONNX degrader come from: its graph, its caller, or the runtime.

In the graph they are those of ``deflow degrade`` (:func:`deflow_cli.kernels.noise.noise_field`): functions of
a seed, a name and a position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from deflow_cli.checkpoints.onnx.graph import (
    Graph,
    GraphInput,
    count_up,
    cut,
    shape_of,
    side,
    single,
    whole,
)
from deflow_cli.checkpoints.onnx.words import (
    LONGEST_SEED,
    MESSAGE_BYTES,
    Counters,
    keys_of,
    low_half,
    philox,
    shifted,
    to_double,
    to_float,
    to_whole,
    words,
)
from deflow_cli.errors import ConfigError
from deflow_cli.kernels.noise_bands import BAND, NUMBERS_PER_BLOCK
from deflow_cli.texts import encoded

SEED, LEVEL_FIELD, COMPONENT_FIELD = "seed", "noise_level", "noise_component"
CONTENT_SEED = -1  # in the place of a seed: each image's follows from its pixels
LONGEST_KEY = 64  # bytes of an image's name, so that what is hashed has room in one block
_STREAM_ROOM = MESSAGE_BYTES - LONGEST_SEED - LONGEST_KEY
_WORDS_PER_COUNTER = 4
_LEVEL_COUNTERS = 2

_PERIODS = (1019, 1021)  # of the factors of pixels in what stands for an image's content
_ODD = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9)  # multipliers that spread it over the bits

_TO_UNIT = 2.0**-53  # of the upper 53 bits of a word, as NumPy makes doubles


@dataclass(frozen=True)
class NoiseField:
    """Random numbers of a graph: N x C x H x W, or one number for each image.

    name: as an input of the graph. kind: standard normals, uniforms in [-0.5, 0.5), or one number per image:
    ``component`` in [0, 1), ``level`` a standard normal. stream: the name of ours. of_sample: whether the
    seed changes it; the image's name always does. height, width: lists of one whole number.
    """

    name: str
    kind: Literal["normal", "uniform", "component", "level"]
    stream: str = "0"
    of_sample: bool = False
    channels: int = 0
    height: str = ""
    width: str = ""

    @property
    def is_plane(self) -> bool:
        return self.kind in ("normal", "uniform")


class NoiseSource(Protocol):
    """Gives a graph its random numbers."""

    def draw(self, graph: Graph, image: str, fields: Sequence[NoiseField]) -> Mapping[str, str]:
        """The numbers by the fields' names, for a graph whose images (N x 3 x H x W) are given."""
        ...


# -- passed in --------------------------------------------------------------------------------------------


class NoiseInputs:
    """Every field is an input of the graph: no operator on bits, and any distribution."""

    def draw(self, graph: Graph, image: str, fields: Sequence[NoiseField]) -> dict[str, str]:
        drawn = {}
        for field in fields:
            plane = (f"{field.name}_height", f"{field.name}_width")
            axes = ("N", field.channels, *plane) if field.is_plane else ("N",)
            value = graph.input(GraphInput(field.name, np.float32, axes))
            drawn[field.name] = to_double(graph, value) if field.kind == "component" else value
        return drawn


# -- the runtime's ----------------------------------------------------------------------------------------


class RuntimeNoise:
    """ONNX's own random operators: other numbers at every call, on any device, without a seed."""

    def draw(self, graph: Graph, image: str, fields: Sequence[NoiseField]) -> dict[str, str]:
        batch = side(graph, image, 0)
        drawn = {}
        for field in fields:
            shape = batch
            if field.is_plane:
                shape = shape_of(graph, batch, field.channels, field.height, field.width)
            blank = graph("Expand", single(0.0), shape)
            if field.kind in ("normal", "level"):
                drawn[field.name] = graph("RandomNormalLike", blank, dtype=1)
                continue
            low = 0.0 if field.kind == "component" else -0.5
            value = graph("RandomUniformLike", blank, dtype=1, low=low, high=low + 1)
            drawn[field.name] = to_double(graph, value) if field.kind == "component" else value
        return drawn


# -- ours, drawn in the graph -----------------------------------------------------------------------------


class SeededNoise:
    """Our noise by counter. The graph gets an input ``seed`` that may be left out.

    Image n of a batch is drawn as ``deflow degrade --seed SEED+n`` draws an image of the name ``key``. seed:
    the default; ``CONTENT_SEED``: a function of an image's pixels, so that different images get different
    noise. Raises ConfigError for a key that is too long.
    """

    def __init__(self, key: str, seed: int = CONTENT_SEED) -> None:
        self.key, self.seed = key, seed
        if len(encoded(key)) > LONGEST_KEY:
            raise ConfigError(
                f"the name {key!r} has more than {LONGEST_KEY} bytes",
                next_step="pass a shorter one: it stands for an image's name",
            )

    def draw(self, graph: Graph, image: str, fields: Sequence[NoiseField]) -> dict[str, str]:
        given = graph.input(GraphInput(SEED, np.int64, (1,), whole(self.seed)))
        tails = [encoded("\x1f".join(("", self.key, field.kind, field.stream))) for field in fields]
        assert all(len(tail) - len(encoded(self.key)) <= _STREAM_ROOM for tail in tails)
        keys = keys_of(graph, self._seeds(graph, image, given, fields), tails)
        counters = [self._counters(graph, image, keys, index, field) for index, field in enumerate(fields)]
        together = Counters(*(graph("Concat", *parts, axis=0) for parts in zip(*counters, strict=True)))
        lengths = graph("Concat", *(graph("Shape", each.first) for each in counters), axis=0)
        parts = graph.several("Split", len(fields), philox(graph, together), lengths, axis=0)
        return {
            field.name: _numbers(graph, image, part, field) for field, part in zip(fields, parts, strict=True)
        }

    def _seeds(self, graph: Graph, image: str, given: str, fields: Sequence[NoiseField]) -> str:
        """The seed of each image's fields: N x S. Those of the image itself have 0, as ours do."""
        content = _content(graph, image)
        by_content = graph("Less", given, whole(0))
        place = count_up(graph, side(graph, image, 0))
        of_sample = graph("Where", by_content, content, graph("Add", given, place))
        of_image = graph("Where", by_content, content, graph("Mul", place, whole(0)))
        pair = graph(
            "Concat", *(graph("Unsqueeze", value, whole(1)) for value in (of_image, of_sample)), axis=1
        )
        return graph("Gather", pair, whole(*(int(field.of_sample) for field in fields)), axis=1)

    def _counters(
        self, graph: Graph, image: str, keys: tuple[str, str], index: int, field: NoiseField
    ) -> Counters:
        """The counters of a field, images first, then bands, then the blocks of a band."""
        if field.is_plane:
            blocks = _blocks(graph, field)
            bands = _divided_up(graph, field.height, BAND)
        else:
            blocks, bands = graph("Identity", whole(_LEVEL_COUNTERS)), graph("Identity", whole(1))
        number = count_up(graph, graph("Mul", blocks, bands))
        batch = side(graph, image, 0)
        shape = graph("Concat", batch, graph("Shape", number), axis=0)
        parts = [
            graph("Expand", graph("Add", graph("Mod", number, blocks), whole(1)), shape),
            graph("Expand", graph("Div", number, blocks), shape),
            *(graph("Expand", graph("Gather", key, whole(index), axis=1), shape) for key in keys),
        ]
        return Counters(*(graph("Reshape", part, whole(-1)) for part in parts))


def _blocks(graph: Graph, field: NoiseField) -> str:
    numbers = graph("Mul", field.width, whole(BAND * field.channels))
    return _divided_up(graph, numbers, NUMBERS_PER_BLOCK)


def _divided_up(graph: Graph, number: str, by: int) -> str:
    return graph("Div", graph("Add", number, whole(by - 1)), whole(by))


def _content(graph: Graph, image: str) -> str:
    """A whole number of 62 bits that follows from an image's pixels: N."""
    levels = to_whole(graph, graph("Round", graph("Mul", image, single(65535.0))))
    flat = graph("Reshape", levels, whole(0, -1))
    place = count_up(graph, side(graph, flat, 1))
    sums = []
    for period in _PERIODS:  # small enough that the sums are exact, which onnxruntime forms in floats
        factor = graph("Add", graph("Mod", place, whole(period)), whole(1))
        sums.append(graph("ReduceSum", graph("Mul", flat, factor), whole(1), keepdims=0))
    mixed = graph(
        "BitwiseXor", *(graph("Mul", total, words(odd)) for total, odd in zip(sums, _ODD, strict=True))
    )
    return graph("BitwiseAnd", mixed, whole((1 << 62) - 1))


def _numbers(graph: Graph, image: str, random: str, field: NoiseField) -> str:
    """A field of the words (T x 4) of its counters."""
    if not field.is_plane:
        row = graph("Reshape", random, whole(-1, _LEVEL_COUNTERS * _WORDS_PER_COUNTER))
        if field.kind == "component":
            return graph("Squeeze", _unit(graph, cut(graph, row, 1, 0, 1)), whole(1))
        return _standard_normal(graph, row)
    low, high = to_float(graph, low_half(graph, random)), to_float(graph, shifted(graph, random, 32))
    if field.kind == "normal":
        unit = graph("Add", graph("Mul", low, single(2.0**-32)), single(2.0**-33))
        radius = graph("Sqrt", graph("Mul", graph("Log", unit), single(-2.0)))
        angle = graph("Mul", high, single(2.0 * np.pi * 2.0**-32))
        first, second = (graph("Mul", radius, graph(name, angle)) for name in ("Cos", "Sin"))
    else:
        first, second = (
            _uniform(graph, value) for value in (low_half(graph, random), shifted(graph, random, 32))
        )
    pairs = graph("Concat", *(graph("Unsqueeze", value, whole(2)) for value in (first, second)), axis=2)
    return _plane(graph, image, pairs, field)


def _uniform(graph: Graph, half: str) -> str:
    """Uniforms in [-0.5, 0.5) of the upper 24 bits of 32-bit words."""
    number = to_float(graph, shifted(graph, half, 8))
    return graph("Sub", graph("Mul", number, single(2.0**-24)), single(0.5))


def _plane(graph: Graph, image: str, numbers: str, field: NoiseField) -> str:
    """Bands of four rows, each a sequence by column, row and channel, as N x C x H x W."""
    batch, bands = side(graph, image, 0), _divided_up(graph, field.height, BAND)
    band = graph("Reshape", numbers, shape_of(graph, batch, bands, -1))
    used = graph("Mul", field.width, whole(BAND * field.channels))
    band = cut(graph, band, 2, 0, used)
    columns = graph("Reshape", band, shape_of(graph, batch, bands, field.width, BAND, field.channels))
    rows = graph("Transpose", columns, perm=[0, 4, 1, 3, 2])
    plane = graph("Reshape", rows, shape_of(graph, batch, field.channels, -1, field.width))
    return cut(graph, plane, 2, 0, field.height)


# -- single numbers, as NumPy's generators make them ------------------------------------------------------


def _unit(graph: Graph, word: str) -> str:
    """A double in [0, 1)."""
    return graph("Mul", to_double(graph, shifted(graph, word, 11)), np.array(_TO_UNIT))


def _standard_normal(graph: Graph, row_n8: str) -> str:
    """A standard normal (N, float32) of each image's words, by NumPy's ziggurat.

    The ziggurat goes on until a proposal is accepted. Here the second is the last: one seed in tens of
    thousands gets another number than NumPy's.
    """
    word = [cut(graph, row_n8, 1, index, index + 1) for index in range(3)]
    first, second = _proposal(graph, word[0]), _proposal(graph, word[2])
    wedge_end, wedge_start = (
        graph("Gather", table, first.layer) for table in (_ZIGGURAT.density, _ZIGGURAT.density_before)
    )
    uniform = _unit(graph, word[1])
    height = graph("Add", graph("Mul", graph("Sub", wedge_start, wedge_end), uniform), wedge_end)
    curve = graph("Exp", graph("Mul", graph("Mul", first.value, first.value), np.array(-0.5)))
    accepted = graph("Or", first.inside, graph("Less", height, curve))
    past = graph("Mul", graph("Log", graph("Sub", np.array(1.0), uniform)), np.array(-1.0 / _EDGE))
    tail = graph("Mul", graph("Add", past, np.array(_EDGE)), first.tail_sign)
    in_tail = graph("And", graph("Equal", first.layer, whole(0)), graph("Not", first.inside))
    value = graph("Where", in_tail, tail, graph("Where", accepted, first.value, second.value))
    return to_float(graph, graph("Squeeze", value, whole(1)))


@dataclass(frozen=True)
class _Proposal:
    layer: str
    value: str
    inside: str
    tail_sign: str


def _proposal(graph: Graph, word: str) -> _Proposal:
    layer = graph("BitwiseAnd", word, whole(0xFF))
    above = shifted(graph, word, 9)
    magnitude = graph("BitwiseAnd", above, whole((1 << 52) - 1))
    value = graph("Mul", to_double(graph, magnitude), graph("Gather", _ZIGGURAT.width, layer))
    return _Proposal(
        layer,
        graph("Mul", value, _sign(graph, shifted(graph, word, 8))),
        graph("Less", magnitude, graph("Gather", _ZIGGURAT.bound, layer)),
        _sign(graph, shifted(graph, magnitude, 8)),
    )


def _sign(graph: Graph, number: str) -> str:
    """-1.0 where the lowest bit is set, else 1.0."""
    bit = to_double(graph, graph("BitwiseAnd", number, whole(1)))
    return graph("Sub", np.array(1.0), graph("Mul", bit, np.array(2.0)))


_EDGE = 3.6541528853610088  # where the lowest layer ends and the tail begins
_AREA = 0.00492867323399  # of each of the 256 layers


@dataclass(frozen=True)
class _Tables:
    """Of a ziggurat of 256 layers (Marsaglia and Tsang, JSS 2000, in Doornik's form), for 52 bits.

    width: of a layer, over 2^52. bound: proposals below are inside. density: at a layer's end, and of the one
    before.
    """

    width: NDArray[np.float64]
    bound: NDArray[np.int64]
    density: NDArray[np.float64]
    density_before: NDArray[np.float64]


def _tables() -> _Tables:
    edges = np.empty(256)
    edges[255] = _EDGE
    for layer in range(254, 0, -1):
        end = edges[layer + 1]
        edges[layer] = np.sqrt(-2 * np.log(_AREA / end + np.exp(-0.5 * end * end)))
    density = np.exp(-0.5 * edges**2)
    density[0] = 1.0
    edges[0] = _AREA / density[255]  # of a box as large as the lowest layer with its tail
    inside = np.empty(256)
    inside[0] = _EDGE / edges[0]
    inside[1] = 0.0
    inside[2:] = edges[1:255] / edges[2:]
    return _Tables(edges * 2.0**-52, (inside * 2.0**52).astype(np.int64), density, np.roll(density, 1))


_ZIGGURAT = _tables()
