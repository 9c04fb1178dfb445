"""Kernels of the affine coupling: scale, map and log-det in one pass, and its gradients in another."""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# Triton reads annotations of its kernels as types of its own; pointers and numbers go without.
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _arctangent(x):
    """atan in float32 within 2e-7, relative (Cephes atanf): Triton itself has none off the GPU."""
    size = tl.abs(x)
    steep = size > 2.414213562373095
    middle = size > 0.4142135623730950
    numerator = tl.where(steep, -1.0, tl.where(middle, size - 1.0, size))
    denominator = tl.where(steep, size, tl.where(middle, size + 1.0, 1.0))
    base = tl.where(steep, 1.5707963267948966, tl.where(middle, 0.7853981633974483, 0.0))
    t = numerator / denominator
    u = t * t
    series = ((8.05374449538e-2 * u - 1.38776856032e-1) * u + 1.99777106478e-1) * u - 3.33329491539e-1
    angle = base + (series * u * t + t)
    return tl.where(x < 0, -angle, angle)


@triton.jit
def _scale_of(raw, parameter, PUBLISHED: tl.constexpr):
    """(scale, log scale, slope of log scale in raw); parameter is eps (published) or bound (bounded)."""
    if PUBLISHED:
        gate = tl.sigmoid(raw + 2.0)
        scale = gate + parameter
        log_scale = tl.log(scale)
        slope = gate * (1.0 - gate) / scale
    else:
        ratio = raw / parameter
        log_scale = parameter * _arctangent(ratio)
        scale = tl.exp(log_scale)
        slope = 1.0 / (1.0 + ratio * ratio)
    return scale, log_scale, slope


@triton.jit
def _indices(channels, positions, CHANNELS_LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr):
    """Channels, positions and mask of this program: int64, since a batch may exceed 2**31 elements.

    The tile's last axis, along which neighbouring threads read, is the one dense in memory.
    """
    c = tl.program_id(1).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    p = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    if CHANNELS_LAST:
        c, p = c[None, :], p[:, None]
    else:
        c, p = c[:, None], p[None, :]
    return c, p, (c < channels) & (p < positions)


@triton.jit
def coupling_kernel(
    z_ptr, raw_ptr, y_ptr, partial_ptr,
    z_b, z_c, z_p, raw_b, raw_c, raw_p, y_b, y_c, y_p,
    channels, positions, parameter,
    PUBLISHED: tl.constexpr, DECODE: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """y, and the block's share of the log-det, one number per program."""
    b = tl.program_id(2).to(tl.int64)
    c, p, mask = _indices(channels, positions, CHANNELS_LAST, BLOCK_C, BLOCK_P)
    z = tl.load(z_ptr + b * z_b + c * z_c + p * z_p, mask=mask, other=0.0).to(tl.float32)
    pair = raw_ptr + b * raw_b + 2 * c * raw_c + p * raw_p
    shift = tl.load(pair, mask=mask, other=0.0).to(tl.float32)
    raw = tl.load(pair + raw_c, mask=mask, other=0.0).to(tl.float32)
    scale, log_scale, _ = _scale_of(raw, parameter, PUBLISHED)
    total = tl.sum(tl.sum(tl.where(mask, log_scale, 0.0), axis=1), axis=0)
    if DECODE:
        y = (z + shift) * scale
    else:
        y = z / scale - shift
        total = -total
    tl.store(y_ptr + b * y_b + c * y_c + p * y_p, y, mask=mask)
    # Every program has its own cell: no atomics, so that two runs give the same bits.
    program = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    tl.store(partial_ptr + b * (tl.num_programs(0) * tl.num_programs(1)) + program, total)


@triton.jit
def coupling_backward_kernel(
    z_ptr, raw_ptr, grad_y_ptr, grad_log_det_ptr, grad_z_ptr, grad_raw_ptr,
    z_b, z_c, z_p, raw_b, raw_c, raw_p, gy_b, gy_c, gy_p, gz_b, gz_c, gz_p, gr_b, gr_c, gr_p,
    channels, positions, parameter,
    PUBLISHED: tl.constexpr, DECODE: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Gradients of z, shift and raw scale; the scale is computed again rather than kept."""
    b = tl.program_id(2).to(tl.int64)
    c, p, mask = _indices(channels, positions, CHANNELS_LAST, BLOCK_C, BLOCK_P)
    z = tl.load(z_ptr + b * z_b + c * z_c + p * z_p, mask=mask, other=0.0).to(tl.float32)
    pair = raw_ptr + b * raw_b + 2 * c * raw_c + p * raw_p
    raw = tl.load(pair + raw_c, mask=mask, other=0.0).to(tl.float32)
    grad_y = tl.load(grad_y_ptr + b * gy_b + c * gy_c + p * gy_p, mask=mask, other=0.0).to(tl.float32)
    grad_log_det = tl.load(grad_log_det_ptr + b).to(tl.float32)
    scale, _, slope = _scale_of(raw, parameter, PUBLISHED)
    if DECODE:  # y = (z + shift) s, log-det sum(log s)
        shift = tl.load(pair, mask=mask, other=0.0).to(tl.float32)
        grad_z = grad_y * scale
        grad_shift = grad_z
        grad_log_scale = grad_z * (z + shift) + grad_log_det
    else:  # y = z / s - shift, log-det -sum(log s)
        grad_z = grad_y / scale
        grad_shift = -grad_y
        grad_log_scale = -grad_z * z - grad_log_det
    tl.store(grad_z_ptr + b * gz_b + c * gz_c + p * gz_p, grad_z, mask=mask)
    grad_pair = grad_raw_ptr + b * gr_b + 2 * c * gr_c + p * gr_p
    tl.store(grad_pair, grad_shift, mask=mask)
    tl.store(grad_pair + gr_c, grad_log_scale * slope, mask=mask)
