"""Weight gradients of many convolutions in Triton: one launch in place of several for each of them."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from deflow_cli.kernels import reference
from deflow_cli.kernels.triton.weight_gradient_kernels import weight_gradient_kernel

BLOCK_POSITIONS = 64
PROGRAMS = 2048  # enough to fill a large GPU a few times; fewer would split the positions
SMALLEST_SPLIT = 1024  # positions


def weight_gradients(x_nbhwc: Tensor, grad_nbhwc: Tensor, side: int) -> Tensor:
    """``reference.weight_gradients`` with sums in float32: same arguments, same results to rounding."""
    if x_nbhwc.numel() == 0 or grad_nbhwc.numel() == 0:  # there is no empty grid
        return reference.weight_gradients(x_nbhwc, grad_nbhwc, side)
    (x, x_n, x_p), (grad, grad_n, grad_p) = _positions_apart(x_nbhwc), _positions_apart(grad_nbhwc)
    groups, batch, height, width, inputs = x.shape
    outputs, positions = grad.shape[-1], batch * height * width
    blocks: dict[str, Any] = {
        "BLOCK_I": max(16, min(64, triton.next_power_of_2(inputs))),
        "BLOCK_O": max(16, min(64, triton.next_power_of_2(outputs))),
        "BLOCK_P": BLOCK_POSITIONS,
        "WIDEN": not isinstance(weight_gradient_kernel, triton.JITFunction),
    }
    tiles = triton.cdiv(inputs, blocks["BLOCK_I"]) * triton.cdiv(outputs, blocks["BLOCK_O"]) * side**2
    splits = max(1, min(PROGRAMS // (tiles * groups), positions // SMALLEST_SPLIT))
    per_split = triton.cdiv(triton.cdiv(positions, splits), BLOCK_POSITIONS) * BLOCK_POSITIONS
    splits = triton.cdiv(positions, per_split)
    # every split has its own cells: no atomics, so that two runs give the same bits
    out = torch.empty((splits, groups, outputs, side, side, inputs), device=x.device)
    with torch.cuda.device_of(x):
        weight_gradient_kernel[(tiles, splits, groups)](
            x, grad, out, x_n, x_p, grad_n, grad_p,
            groups, height, width, positions, per_split, inputs, outputs, SIDE=side, **blocks,
        )  # fmt: skip
    total = out[0] if splits == 1 else out.sum(0)
    return total.permute(0, 1, 4, 2, 3)


def _positions_apart(nbhwc: Tensor) -> tuple[Tensor, int, int]:
    """The tensor with its strides of a convolution and of a position; copied where these are not enough."""
    height, width = nbhwc.shape[2:4]
    n, image, row, column, channel = nbhwc.stride()
    if channel != 1 or (row, image) != (width * column, height * width * column):
        nbhwc = nbhwc.contiguous()
        n, column = nbhwc.stride(0), nbhwc.stride(3)
    return nbhwc, n, column
