"""Words: 64-bit words without sign in ONNX, and on them BLAKE2b and Philox, as our noise has them.

onnxruntime multiplies and adds whole numbers with sign alone, which wrap around as those without sign do, and
shifts bits of numbers without sign alone. Words are therefore int64 with the same bits, and shifts go through
uint64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deflow_cli.checkpoints.onnx.graph import Graph, Value, cut, whole

MESSAGE_BYTES = 128  # one block of BLAKE2b
LONGEST_SEED = 19  # decimal digits of a seed below 2^63
DIGEST_SIZE = 16  # bytes

# BLAKE2b (RFC 7693): initial words, and the order of the message's words in each round.
_START = (
    0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
    0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
)  # fmt: skip
_ORDERS = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
_ROUNDS = 12

# Philox4x64-10 (Salmon et al., SC 2011): multipliers, and what the keys grow by.
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_PHILOX_ROUNDS = 10
_LOW = np.array(0xFFFFFFFF, np.int64)


def words(*numbers: int) -> NDArray[np.int64]:
    """Words without sign as the numbers with sign that have their bits."""
    return np.array(numbers, np.uint64).view(np.int64)


def shifted(graph: Graph, word: str, by: int) -> str:
    """A word shifted right, zeros coming in."""
    return _signed(graph, graph("BitShift", _unsigned(graph, word), _amount(by), direction="RIGHT"))


def low_half(graph: Graph, word: str) -> str:
    return graph("BitwiseAnd", word, _LOW)


def _unsigned(graph: Graph, word: str) -> str:
    return graph("Cast", word, to=_type(np.uint64))


def _signed(graph: Graph, word: str) -> str:
    return graph("Cast", word, to=_type(np.int64))


def _amount(bits: int) -> NDArray[np.uint64]:
    return np.array(bits, np.uint64)


def _type(dtype: type[np.generic]) -> int:
    """ONNX's number of a type."""
    return {np.float32: 1, np.int64: 7, np.float64: 11, np.uint64: 13}[dtype]  # type: ignore[index]


def to_float(graph: Graph, number: str) -> str:
    return graph("Cast", number, to=_type(np.float32))


def to_double(graph: Graph, number: str) -> str:
    return graph("Cast", number, to=_type(np.float64))


def to_whole(graph: Graph, number: str) -> str:
    return graph("Cast", number, to=_type(np.int64))


# -- names to keys ----------------------------------------------------------------------------------------


def keys_of(graph: Graph, seed_ns: str, tails: list[bytes]) -> tuple[str, str]:
    """Both words (each N x S) of BLAKE2b's 128 bits of the decimal digits of each seed and then its tail.

    seed_ns: N x S whole numbers of at least 0. tails: S texts, which a seed's digits leave room for in one
    block of the hash. This is the key that ``inference.positional_noise`` makes of a seed, a name and a
    stream.
    """
    assert all(len(tail) + LONGEST_SEED <= MESSAGE_BYTES for tail in tails)
    powers = np.array([10**exponent for exponent in reversed(range(LONGEST_SEED))], np.int64)
    column = graph("Unsqueeze", seed_ns, whole(2))
    digits = graph("Mod", graph("Div", column, powers), np.array(10, np.int64))
    counted = graph("GreaterOrEqual", column, powers[:-1])
    number = graph(
        "Add", graph("ReduceSum", to_whole(graph, counted), whole(2)), whole(1)
    )  # of digits: N x S x 1
    padded = [tail.ljust(MESSAGE_BYTES, b"\0") for tail in tails]
    tail_bytes = np.frombuffer(b"".join(padded), np.uint8).astype(np.int64).reshape(1, len(tails), -1)
    wide = graph("Expand", tail_bytes, graph("Concat", graph("Shape", seed_ns), whole(MESSAGE_BYTES), axis=0))
    text = graph("Concat", graph("Add", digits, np.array(ord("0"), np.int64)), wide, axis=2)
    # digits right before the tail: the message begins at the first of those that count
    place = graph("Sub", np.arange(LONGEST_SEED, LONGEST_SEED + MESSAGE_BYTES, dtype=np.int64), number)
    message = graph("GatherElements", text, place, axis=2)
    lengths = np.array([len(tail) for tail in tails], np.int64)
    length = graph("Add", graph("Squeeze", number, whole(2)), lengths)
    return _blake2b(graph, message, length)


def _blake2b(graph: Graph, message_nsb: str, length_ns: str) -> tuple[str, str]:
    """The first two words of the hash of messages of one block, without a key (RFC 7693, section 3.2)."""
    eight = graph("Reshape", message_nsb, whole(0, 0, MESSAGE_BYTES // 8, 8))
    scaled = graph("Mul", eight, words(*(256**index for index in range(8))))
    parts = graph.several("Split", 8, scaled, whole(*[1] * 8), axis=3)
    message = parts[0]
    for part in parts[1:]:  # onnxruntime's ReduceSum adds whole numbers as floats
        message = graph("Add", message, part)
    message = graph("Squeeze", message, whole(3))
    start = (_START[0] ^ 0x01010000 ^ DIGEST_SIZE, *_START[1:])
    like = graph("Mul", graph("Unsqueeze", length_ns, whole(2)), whole(0))  # N x S x 1 of zeros
    a, b, c = (graph("Add", like, words(*row)) for row in (start[:4], start[4:], _START[:4]))
    fifth = graph("BitwiseXor", graph("Unsqueeze", length_ns, whole(2)), words(_START[4]))
    ended = words(_START[5], _START[6] ^ 0xFFFFFFFFFFFFFFFF, _START[7])
    d = graph("Concat", fifth, graph("Add", like, ended), axis=2)
    for number in range(_ROUNDS):
        order = _ORDERS[number % len(_ORDERS)]
        a, b, c, d = _mixed(graph, message, order[:8], (a, b, c, d))
        b, c, d = (_rolled(graph, row, by) for row, by in ((b, 1), (c, 2), (d, 3)))
        a, b, c, d = _mixed(graph, message, order[8:], (a, b, c, d))
        b, c, d = (_rolled(graph, row, by) for row, by in ((b, 3), (c, 2), (d, 1)))
    digest = graph("BitwiseXor", graph("BitwiseXor", a, words(*start[:4])), c)
    first, second = graph.several("Split", 2, cut(graph, digest, 2, 0, 2), whole(1, 1), axis=2)
    return graph("Squeeze", first, whole(2)), graph("Squeeze", second, whole(2))


Rows = tuple[str, str, str, str]


def _mixed(graph: Graph, message: str, order: tuple[int, ...], rows: Rows) -> Rows:
    """G of BLAKE2b on four columns at once; rows: words 0-3, 4-7, 8-11 and 12-15 of the state."""
    a, b, c, d = rows
    for words_at, (first, second) in ((order[0::2], (32, 24)), (order[1::2], (16, 63))):
        a = graph("Add", graph("Add", a, b), graph("Gather", message, whole(*words_at), axis=2))
        d = _rotated(graph, graph("BitwiseXor", d, a), first)
        c = graph("Add", c, d)
        b = _rotated(graph, graph("BitwiseXor", b, c), second)
    return a, b, c, d


def _rotated(graph: Graph, word: str, by: int) -> str:
    """Bits rotated right."""
    bits = _unsigned(graph, word)
    right = graph("BitShift", bits, _amount(by), direction="RIGHT")
    left = graph("BitShift", bits, _amount(64 - by), direction="LEFT")
    return _signed(graph, graph("BitwiseOr", right, left))


def _rolled(graph: Graph, row: str, by: int) -> str:
    return graph("Gather", row, whole(*((index + by) % 4 for index in range(4))), axis=2)


# -- counters to random words -----------------------------------------------------------------------------


class Counters(NamedTuple):
    """Counters (first, second, 0, 0) of Philox with their keys: lists of words of one length."""

    first: str
    second: str
    key_low: str
    key_high: str


def philox(graph: Graph, counters: Counters) -> str:
    """The four words of each counter: T x 4."""
    zero = graph("Mul", counters.first, whole(0))
    state: Rows = (counters.first, counters.second, zero, zero)
    keys: list[Value] = [counters.key_low, counters.key_high]
    for number in range(_PHILOX_ROUNDS):
        if number:
            keys = [graph("Add", key, words(step)) for key, step in zip(keys, _KEY_STEPS, strict=True)]
        high_a, low_a = _product(graph, state[0], _MULTIPLIERS[0])
        high_b, low_b = _product(graph, state[2], _MULTIPLIERS[1])
        state = (
            graph("BitwiseXor", graph("BitwiseXor", high_b, state[1]), keys[0]),
            low_b,
            graph("BitwiseXor", graph("BitwiseXor", high_a, state[3]), keys[1]),
            low_a,
        )
    return graph("Concat", *(graph("Unsqueeze", word, whole(1)) for word in state), axis=1)


def _product(graph: Graph, word: str, factor: int) -> tuple[str, str]:
    """High and low word of a product of 128 bits, of four products of halves."""
    low, high = low_half(graph, word), shifted(graph, word, 32)
    factor_low, factor_high = words(factor & 0xFFFFFFFF), words(factor >> 32)
    both_low = graph("Mul", low, factor_low)
    crossed = [graph("Mul", high, factor_low), graph("Mul", low, factor_high)]
    middle = shifted(graph, both_low, 32)
    for part in crossed:
        middle = graph("Add", middle, low_half(graph, part))
    result = graph("Add", graph("Mul", high, factor_high), shifted(graph, middle, 32))
    for part in crossed:
        result = graph("Add", result, shifted(graph, part, 32))
    return result, graph("Mul", word, words(factor))
