"""Affine coupling in Triton: one pass forward, and a backward that needs only the inputs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from deflow_cli.kernels import reference
from deflow_cli.kernels.reference import ScaleForm
from deflow_cli.kernels.triton.affine_kernels import coupling_backward_kernel, coupling_kernel

BLOCK_ELEMENTS = 1024


# Under TRITON_INTERPRET=1, set before Triton is first imported, kernels are interpreted and run on the CPU.
INTERPRETED = not isinstance(coupling_kernel, triton.JITFunction)


def coupling_forward(z_bchw: Tensor, raw_bchw: Tensor, form: ScaleForm) -> tuple[Tensor, Tensor]:
    """``reference.coupling_forward`` in float32: same arguments, same results to rounding."""
    return _coupling(z_bchw, raw_bchw, form, decode=False)


def coupling_inverse(z_bchw: Tensor, raw_bchw: Tensor, form: ScaleForm) -> tuple[Tensor, Tensor]:
    """``reference.coupling_inverse`` in float32: same arguments, same results to rounding."""
    return _coupling(z_bchw, raw_bchw, form, decode=True)


def _coupling(z: Tensor, raw: Tensor, form: ScaleForm, decode: bool) -> tuple[Tensor, Tensor]:
    if z.numel() == 0:  # there is no empty grid
        return (reference.coupling_inverse if decode else reference.coupling_forward)(z, raw, form)
    y, log_det = _Coupling.apply(z, raw, form, decode)
    return y, log_det


class _Coupling(torch.autograd.Function):
    """Keeps its two inputs; the gradient of its gradient goes through the reference."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, raw: Tensor, form: ScaleForm, decode: bool) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(z, raw)
        ctx.form, ctx.decode = form, decode
        return _launch(z, raw, form, decode)

    @staticmethod
    def backward(
        ctx: Any, grad_y: Tensor, grad_log_det: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        z, raw = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            grad_z, grad_raw = _differentiable_gradients(z, raw, grad_y, grad_log_det, ctx.form, ctx.decode)
        else:
            grad_z, grad_raw = _launch_backward(z, raw, grad_y, grad_log_det, ctx.form, ctx.decode)
        wants_z, wants_raw = ctx.needs_input_grad[:2]
        return grad_z if wants_z else None, grad_raw if wants_raw else None, None, None


def _differentiable_gradients(
    z: Tensor, raw: Tensor, grad_y: Tensor, grad_log_det: Tensor, form: ScaleForm, decode: bool
) -> tuple[Tensor, Tensor]:
    # Views, so that no gradient flows from raw on to z where a net computed raw from z.
    z, raw = (t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in (z, raw))
    operation = reference.coupling_inverse if decode else reference.coupling_forward
    grad_z, grad_raw = torch.autograd.grad(
        operation(z, raw, form), (z, raw), (grad_y, grad_log_det), create_graph=True
    )
    return grad_z, grad_raw


class _Grid(NamedTuple):
    """Programs along positions, channels and batch, each of BLOCK_C channels times BLOCK_P positions."""

    programs: tuple[int, int, int]
    channels_last: bool
    block_c: int
    block_p: int


def _grid(z: Tensor, raw: Tensor) -> _Grid:
    """Blocks run along the axis that is dense in memory: positions, or channels in channels_last."""
    batch, channels, height, width = z.shape
    positions = height * width
    channels_last = raw.stride(1) == 1 and positions > 1
    if channels_last:
        block_c = min(triton.next_power_of_2(channels), 256)
        block_p = min(triton.next_power_of_2(positions), BLOCK_ELEMENTS // block_c)
    else:
        block_p = min(triton.next_power_of_2(positions), BLOCK_ELEMENTS)
        block_c = min(triton.next_power_of_2(channels), BLOCK_ELEMENTS // block_p)
    programs = (triton.cdiv(positions, block_p), triton.cdiv(channels, block_c), batch)
    return _Grid(programs, channels_last, block_c, block_p)


def _strides(tensor: Tensor) -> tuple[int, int, int] | None:
    """Strides of batch, channel and position; None if rows and columns do not form one axis."""
    batch, channel, row, column = tensor.stride()
    height, width = tensor.shape[2:]
    if height == 1:
        return batch, channel, column
    if width == 1:
        return batch, channel, row
    return (batch, channel, column) if row == width * column else None


def _readable(tensor: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """The tensor, copied only if its positions are not one axis, and its strides."""
    strides = _strides(tensor)
    if strides is None:
        tensor = tensor.contiguous()
        strides = _strides(tensor)
        assert strides is not None
    return tensor, strides


def _empty_like(tensor: Tensor, dtype: torch.dtype) -> tuple[Tensor, tuple[int, int, int]]:
    """A dense tensor in the layout of the given one, and its strides."""
    empty = torch.empty_like(tensor, dtype=dtype)
    strides = _strides(empty)
    if strides is None:
        empty = torch.empty(tensor.shape, dtype=dtype, device=tensor.device)
        strides = _strides(empty)
        assert strides is not None
    return empty, strides


def _constants(form: ScaleForm, decode: bool, grid: _Grid) -> dict[str, Any]:
    published = form.kind == "published"
    return {
        "parameter": form.eps if published else form.bound,
        # No fused multiply-adds: each operation rounds as the reference's, whatever Triton's default.
        "enable_fp_fusion": False,
        "PUBLISHED": published,
        "DECODE": decode,
        "CHANNELS_LAST": grid.channels_last,
        "BLOCK_C": grid.block_c,
        "BLOCK_P": grid.block_p,
    }


def _launch(z: Tensor, raw: Tensor, form: ScaleForm, decode: bool) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = z.shape
    z, z_strides = _readable(z)
    raw, raw_strides = _readable(raw.expand(batch, -1, -1, -1))
    y, y_strides = _empty_like(z, torch.float32)
    grid = _grid(z, raw)
    partial = torch.empty((batch, grid.programs[0] * grid.programs[1]), device=z.device)
    with torch.cuda.device_of(z):  # Triton launches on the current device
        coupling_kernel[grid.programs](
            z, raw, y, partial, *z_strides, *raw_strides, *y_strides, channels, height * width,
            **_constants(form, decode, grid),
        )  # fmt: skip
    return y, partial.sum(1)


def _launch_backward(
    z: Tensor, raw: Tensor, grad_y: Tensor, grad_log_det: Tensor, form: ScaleForm, decode: bool
) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = z.shape
    raw_type, shared = raw.dtype, raw.shape[0] < batch
    z, z_strides = _readable(z)
    raw, raw_strides = _readable(raw.expand(batch, -1, -1, -1))
    grad_y, grad_y_strides = _readable(grad_y)
    grad_log_det = grad_log_det.contiguous()
    grad_z, grad_z_strides = _empty_like(z, z.dtype)
    grad_raw, grad_raw_strides = _empty_like(raw, torch.float32 if shared else raw_type)
    grid = _grid(z, raw)
    with torch.cuda.device_of(z):
        coupling_backward_kernel[grid.programs](
            z, raw, grad_y, grad_log_det, grad_z, grad_raw,
            *z_strides, *raw_strides, *grad_y_strides, *grad_z_strides, *grad_raw_strides,
            channels, height * width, **_constants(form, decode, grid),
        )  # fmt: skip
    # A raw that the batch shares gathers its gradient in float32, and is rounded once.
    return grad_z, grad_raw.sum(0, keepdim=True).to(raw_type) if shared else grad_raw
