"""Words: hashes and counters of a graph have the bits of hashlib's and NumPy's."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from deflow_cli.checkpoints.onnx.graph import whole
from deflow_cli.checkpoints.onnx.words import Counters, keys_of, philox, words
from tests.checkpoints.onnx.running import computed, words_out

SEEDS = [[0, 7], [10, 999999999999], [2**62 - 1, 2**63 - 1]]
TAILS = [b"\x1fa.png\x1fnormal\x1fh", b"\x1f" + b"long" * 16 + b"\x1funiform\x1fdequantisation"]


def test_keys_are_blake2b_of_the_seeds_digits_and_the_tail(tmp_path):
    def build(graph):
        low, high = keys_of(graph, graph.constant(np.array(SEEDS, np.int64)), TAILS)
        return graph("Concat", *(graph("Unsqueeze", part, whole(2)) for part in (low, high)), axis=2)

    found = computed(tmp_path, build, words_out(3, 2, 2)).view("<u8")
    for row, seeds in zip(found, SEEDS, strict=True):
        for key, seed, tail in zip(row, seeds, TAILS, strict=True):
            digest = hashlib.blake2b(str(seed).encode() + tail, digest_size=16).digest()
            assert key.tobytes() == digest


@pytest.mark.parametrize("key", [5, 2**128 - 3, 0x0123456789ABCDEFFEDCBA9876543210])
def test_words_are_those_of_numpys_philox(tmp_path, key):
    def build(graph):
        halves = [graph("Expand", words(part), whole(3)) for part in (key & (2**64 - 1), key >> 64)]
        return philox(
            graph, Counters(graph("Identity", whole(1, 2, 3)), graph("Identity", whole(9, 9, 9)), *halves)
        )

    bits = np.random.Philox(key=key)
    state = bits.state
    state["state"]["counter"][:] = (0, 9, 0, 0)
    bits.state = state
    found = computed(tmp_path, build, words_out(3, 4)).view(np.uint64).flatten()
    assert found.tolist() == bits.random_raw(12).tolist()
