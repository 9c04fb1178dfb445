"""Kernel of the weight gradients of many convolutions of one shape, each of them a sum over positions."""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# Triton reads annotations of its kernels as types of its own; pointers and numbers go without.
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def weight_gradient_kernel(
    x_ptr, grad_ptr, out_ptr,
    x_n, x_p, grad_n, grad_p,
    groups, height, width, positions, per_split, inputs, outputs,
    SIDE: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_P: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    """One tap of a block of one convolution's weight, over one split of the positions.

    Channels are dense in memory; x_n, grad_n and x_p, grad_p are the strides of a convolution and of a
    position. A tap sees the positions of x shifted by it; what it would see outside the image is zero.
    WIDEN: multiply in float32, since Triton's interpreter does not multiply bfloat16.
    """
    TAPS: tl.constexpr = SIDE * SIDE
    tap = tl.program_id(0) % TAPS
    block = tl.program_id(0) // TAPS
    blocks_i = tl.cdiv(inputs, BLOCK_I)
    split = tl.program_id(1)
    n = tl.program_id(2).to(tl.int64)
    down, right = tap // SIDE - SIDE // 2, tap % SIDE - SIDE // 2
    i = (block % blocks_i) * BLOCK_I + tl.arange(0, BLOCK_I)
    o = (block // blocks_i) * BLOCK_O + tl.arange(0, BLOCK_O)
    x_ptr += n * x_n + (down * width + right) * x_p
    grad_ptr += n * grad_n
    total = tl.zeros((BLOCK_O, BLOCK_I), dtype=tl.float32)
    end = tl.minimum((split + 1) * per_split, positions)
    for start in range(split * per_split, end, BLOCK_P):
        p = start + tl.arange(0, BLOCK_P)
        row, column = (p // width) % height + down, p % width + right
        inside = (p < end) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        p = p.to(tl.int64)
        grad = tl.load(
            grad_ptr + p[None, :] * grad_p + o[:, None],
            mask=inside[None, :] & (o[:, None] < outputs),
            other=0.0,
        )
        x = tl.load(
            x_ptr + p[:, None] * x_p + i[None, :], mask=inside[:, None] & (i[None, :] < inputs), other=0.0
        )
        if WIDEN:
            grad, x = grad.to(tl.float32), x.to(tl.float32)
        total = tl.dot(grad, x, total, input_precision="ieee")
    at = ((split * groups + n) * outputs + o[:, None]) * TAPS * inputs + tap * inputs + i[None, :]
    tl.store(out_ptr + at, total, mask=(o[:, None] < outputs) & (i[None, :] < inputs))
