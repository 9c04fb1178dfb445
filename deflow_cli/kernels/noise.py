"""Noise by counter: numbers that belong to positions of an endless plane, the same on a CPU and on a GPU."""

from __future__ import annotations

import functools
import importlib
import logging
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.kernels import dispatch
from deflow_cli.kernels.noise_bands import BAND, NUMBERS_PER_BLOCK, NoiseKind, Place, blocks_of_band

NUMBERS_AT_A_TIME = 1 << 15  # numbers that are computed at a time, so that they stay in the CPU's cache
# sqrt(-2 ln u) of u = (word + 1/2) / 2^32, and the angle 2 pi word / 2^32
WORD, HALF_WORD = np.float32(2.0**-32), np.float32(2.0**-33)
WORD_ANGLE = np.float32(2.0 * np.pi * 2.0**-32)

_log = logging.getLogger("deflow.kernels")


def noise_field(
    kind: NoiseKind, key: int, channels: int, place: Place, device: torch.device | str = "cpu"
) -> Tensor:
    """Independent numbers of a rectangle of the plane: 1 x C x H x W, float32, on a device.

    ``normal``: standard normals. ``uniform``: in [-0.5, 0.5). key: 128 bits; planes of different keys are
    independent. A number is a function of the key, its channel, the number of channels and its absolute
    position. The words behind it are the same on all devices; uniforms therefore have the same bits, and
    normals agree to the rounding of logarithm, sine and cosine.

    The plane is cut into bands of four rows. Band b is one sequence of numbers, ordered by column, then by
    row, then by channel. Its numbers 8 n to 8 n + 7 are the 32-bit words, low ones first, of the counter
    (n + 1, b, 0, 0) by Philox4x64-10 (Salmon et al., SC 2011). Two neighbouring words make two normals (Box
    and Muller, 1958).

    >>> whole = noise_field("normal", 7, 3, Place(0, 0, 20, 30))
    >>> torch.equal(noise_field("normal", 7, 3, Place(5, 9, 2, 4)), whole[:, :, 5:7, 9:13])
    True
    """
    device = torch.device(device)
    if device.type == "cuda" and dispatch.get_backend() != "reference":
        drawn = _triton_on(device)
        if not isinstance(drawn, str):
            return torch.as_tensor(drawn.noise_field(kind, key, channels, place, device))
    return reference_field(kind, key, channels, place).to(device)


def reference_field(kind: NoiseKind, key: int, channels: int, place: Place) -> Tensor:
    """``noise_field`` on the CPU, by NumPy's Philox."""
    assert min(place.top, place.left) >= 0
    block, blocks, skipped = blocks_of_band(channels, place)
    length = place.width * BAND * channels
    bits = np.random.Philox(key=key)
    # NumPy counts on before it draws, so the block that follows this counter is the one of (n + 1, b, 0, 0).
    state = bits.state
    top = place.top // BAND * BAND
    bands = -(-(place.top + place.height - top) // BAND)
    field = np.empty((channels, bands * BAND, place.width), np.float32)
    step = max(1, NUMBERS_AT_A_TIME // (NUMBERS_PER_BLOCK * blocks))
    for first in range(0, bands, step):
        count = min(step, bands - first)
        words = np.empty((count, 4 * blocks), "<u8")
        for band in range(count):
            state["state"]["counter"][:] = (block, top // BAND + first + band, 0, 0)
            bits.state = state
            words[band] = bits.random_raw(4 * blocks)
        numbers = _numbers(kind, words.view("<u4"))[:, skipped : skipped + length]
        numbers = numbers.reshape(count, place.width, BAND, channels).transpose(3, 0, 2, 1)
        target = field[:, first * BAND : (first + count) * BAND]
        target.reshape(channels, count, BAND, place.width)[...] = numbers
    rows = slice(place.top - top, place.top - top + place.height)
    return torch.from_numpy(field)[None, :, rows].contiguous()


def _numbers(kind: NoiseKind, words: NDArray[np.uint32]) -> NDArray[np.float32]:
    if kind == "uniform":
        uniform = (words >> np.uint32(8)).astype(np.float32)
        uniform *= np.float32(2.0**-24)
        uniform -= np.float32(0.5)
        return uniform
    radius = words[:, 0::2].astype(np.float32)
    radius *= WORD
    radius += HALF_WORD
    np.log(radius, out=radius)
    radius *= np.float32(-2.0)
    np.sqrt(radius, out=radius)
    angle = words[:, 1::2].astype(np.float32)
    angle *= WORD_ANGLE
    normal = np.empty(words.shape, np.float32)
    np.multiply(radius, np.cos(angle), out=normal[:, 0::2])
    np.multiply(radius, np.sin(angle), out=normal[:, 1::2])
    return normal


@functools.cache
def _triton_on(device: torch.device) -> ModuleType | str:
    """The Triton twin if it runs on a device, else why not; the reason is logged once."""
    try:
        module = importlib.import_module(".triton.noise", __package__)
        module.noise_field("normal", 0, 1, Place(0, 0, 1, 1), device)
    # Triton builds its launcher with the system's C compiler and fails in as many ways as compilers do.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        _log.info("noise for %s is drawn on the CPU: %s", device, reason)
        return reason
    return module
