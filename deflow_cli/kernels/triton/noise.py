"""Noise by counter in Triton: Philox4x64-10 and Box-Muller in one pass, written straight to the field."""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# Triton reads annotations of its kernels as types of its own; pointers and numbers go without.
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from deflow_cli.kernels.noise_bands import BAND, NoiseKind, Place, blocks_of_band

BLOCK = 128


@triton.jit
def _philox4x64(c0, c1, c2, c3, key0, key1):
    """Four 64-bit words of a counter (Salmon et al., SC 2011); all arguments uint64, of one shape."""
    for _ in tl.static_range(10):
        high0, low0 = tl.umulhi(c0, 0xD2E7470EE14C6C93), c0 * 0xD2E7470EE14C6C93
        high1, low1 = tl.umulhi(c2, 0xCA5A826395121157), c2 * 0xCA5A826395121157
        c0, c1, c2, c3 = high1 ^ c1 ^ key0, low1, high0 ^ c3 ^ key1, low0
        key0 += 0x9E3779B97F4A7C15
        key1 += 0xBB67AE8584CAA73B
    return c0, c1, c2, c3


@triton.jit
def _put(field_ptr, number, value, first_row, channels, height, width, BAND: tl.constexpr):
    """Store one number of a band, counted from the place's first column; what lies outside is left out.

    first_row: of the band, from the place's top; it may be negative.
    """
    position = number // channels
    channel = number - position * channels
    column = position // BAND
    row = first_row + position - column * BAND
    inside = (number >= 0) & (column < width) & (row >= 0) & (row < height)
    tl.store(field_ptr + (channel.to(tl.int64) * height + row) * width + column, value, mask=inside)


@triton.jit
def _put_pair(
    field_ptr, word, number, first_row, channels, height, width,
    NORMAL: tl.constexpr, BAND: tl.constexpr,
):  # fmt: skip
    """The two numbers of a 64-bit word, at ``number`` and the one after it."""
    low, high = (word & 0xFFFFFFFF).to(tl.uint32), (word >> 32).to(tl.uint32)
    if NORMAL:
        uniform = low.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
        # u rounds to 1 at most, but an approximate logarithm may be positive there
        radius = tl.sqrt(tl.maximum(-2.0 * tl.log(uniform), 0.0))
        angle = high.to(tl.float32) * 1.4629180792671596e-09
        first, second = radius * tl.cos(angle), radius * tl.sin(angle)
    else:
        first = (low >> 8).to(tl.float32) * 5.9604644775390625e-08 - 0.5
        second = (high >> 8).to(tl.float32) * 5.9604644775390625e-08 - 0.5
    _put(field_ptr, number, first, first_row, channels, height, width, BAND)
    _put(field_ptr, number + 1, second, first_row, channels, height, width, BAND)


# A compiled kernel serves all keys and places: Triton would compile others for 1 and for multiples of 16.
@triton.jit(
    do_not_specialize=["key_low", "key_high", "top", "first_block", "skipped", "channels", "height", "width"]
)
def noise_kernel(
    field_ptr, key_low, key_high, top, first_block, skipped, channels, height, width,
    NORMAL: tl.constexpr, BAND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Program (b, i) draws the counters i BLOCK to (i + 1) BLOCK of a band: eight numbers each."""
    band = top // BAND + tl.program_id(0)
    first_row = band * BAND - top
    block = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    zero = block.to(tl.uint64) * 0
    c0 = zero + (block + 1 + first_block).to(tl.uint64)
    c1 = zero + band.to(tl.uint64)
    key0, key1 = zero + key_low.to(tl.uint64), zero + key_high.to(tl.uint64)
    w0, w1, w2, w3 = _philox4x64(c0, c1, zero, zero, key0, key1)
    number = block * 8 - skipped
    _put_pair(field_ptr, w0, number, first_row, channels, height, width, NORMAL, BAND)
    _put_pair(field_ptr, w1, number + 2, first_row, channels, height, width, NORMAL, BAND)
    _put_pair(field_ptr, w2, number + 4, first_row, channels, height, width, NORMAL, BAND)
    _put_pair(field_ptr, w3, number + 6, first_row, channels, height, width, NORMAL, BAND)


def noise_field(kind: NoiseKind, key: int, channels: int, place: Place, device: torch.device) -> Tensor:
    """``kernels.noise.noise_field`` by a kernel, on a device where Triton runs."""
    assert min(place.top, place.left) >= 0
    field = torch.empty((1, channels, place.height, place.width), device=device)
    if field.numel() == 0:  # there is no empty grid
        return field
    block, blocks, skipped = blocks_of_band(channels, place)
    with torch.cuda.device_of(field):  # Triton launches on the current device
        bands = triton.cdiv(place.top + place.height, BAND) - place.top // BAND
        noise_kernel[(bands, triton.cdiv(blocks, BLOCK))](
            field, _signed(key), _signed(key >> 64), place.top, block, skipped, channels, place.height,
            place.width, NORMAL=kind == "normal", BAND=BAND, BLOCK=BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
    return field


def _signed(key: int) -> int:
    """The low 64 bits as a signed number, so that nearly all keys have one type for Triton, which compiles a
    kernel for each."""
    key &= 2**64 - 1
    return key - 2**64 if key >= 2**63 else key
