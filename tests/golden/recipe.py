"""Recipe: weights as a function of (seed, key, shape), exact in IEEE arithmetic, so none need be stored."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Shape = tuple[int, ...]


def weight(seed: int, key: str, shape: Shape) -> Tensor | None:
    """The float32 tensor of one published key; None for an ActNorm's parameters, which come from data.

    Draws are uniform of a standard deviation that depends on the key: numpy's legacy generator, whose
    stream is frozen, seeded by crc32("seed/key").
    """
    if ".actnorm." in key:
        return None
    random = np.random.RandomState(zlib.crc32(f"{seed}/{key}".encode()) & 0x7FFFFFFF)

    def uniform(std: float) -> np.ndarray:
        return (2.0 * random.random_sample(shape) - 1.0) * (math.sqrt(3.0) * std)

    rule = _rule(key, shape)
    value = rule(random, shape) if callable(rule) else uniform(rule)
    if key.endswith("cov_shift"):
        value = 0.4 * np.eye(shape[0]) + value
    return torch.from_numpy(np.ascontiguousarray(value.astype(np.float32)))


def _identity(random: np.random.RandomState, shape: Shape) -> np.ndarray:
    return np.eye(shape[0])


def _permutation(random: np.random.RandomState, shape: Shape) -> np.ndarray:
    matrix = np.zeros(shape)
    matrix[np.arange(shape[0]), random.permutation(shape[0])] = 1.0
    return matrix


def _signs(random: np.random.RandomState, shape: Shape) -> np.ndarray:
    return np.where(random.random_sample(shape) < 0.5, -1.0, 1.0)


Draw = Callable[[np.random.RandomState, Shape], np.ndarray]


def _rule(key: str, shape: Shape) -> float | Draw:
    """The standard deviation of a key's uniform draw, or a drawing function; the first that fits."""
    fan_in = math.prod(shape[1:])
    trunk = 0.6 if "RRDB_trunk" in key else 0.8
    rules: tuple[tuple[bool, float | Draw], ...] = (
        (key.split(".")[-1] == "I", _identity),
        (key.endswith("mean_shift"), 0.5),
        (key.endswith("cov_shift"), 0.5 / math.sqrt(shape[0])),
        (key.endswith(".invconv.p"), _permutation),
        (key.endswith(".invconv.sign_s"), _signs),
        (key.endswith(".invconv.log_s"), 0.08),
        # whole matrices: the masked halves hold junk on purpose
        (key.endswith((".invconv.l", ".invconv.u")), 0.25 / math.sqrt(shape[0])),
        (key.endswith(".logs"), 0.1),
        (key.startswith("RRDB.") and key.endswith("bias"), 0.05),
        (key.startswith("RRDB."), trunk * math.sqrt(2.0 / fan_in)),
        (key.startswith("flowUpsamplerNet.f."), 0.01),
        (key.endswith(".4.weight"), 0.35 / math.sqrt(fan_in)),
        (key.endswith(".conv.weight"), 0.2 / math.sqrt(fan_in)),
        (key.endswith("bias"), 0.1),
    )
    return next((value for fits, value in rules if fits), 0.05)


def srflow_weight(seed: int, key: str, shape: Shape) -> Tensor | None:
    """The float32 tensor of one published SRFlow key; its 1x1 matrices are signed permutations, disturbed."""
    if not key.endswith(".invconv.weight"):
        return weight(seed, key, shape)
    random = np.random.RandomState(zlib.crc32(f"{seed}/{key}".encode()) & 0x7FFFFFFF)
    channels = shape[0]

    def uniform(shape: Shape, std: float) -> np.ndarray:
        return (2.0 * random.random_sample(shape) - 1.0) * (math.sqrt(3.0) * std)

    order = random.permutation(channels)
    signs = _signs(random, (channels,))
    diagonal = uniform((channels,), 0.08)
    matrix = uniform(shape, 0.2 / math.sqrt(channels))
    matrix[np.arange(channels), order] += signs * (1.0 + diagonal)
    return torch.from_numpy(np.ascontiguousarray(matrix.astype(np.float32)))
