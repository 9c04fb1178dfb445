"""RRDB trunk for training on a GPU: the weight gradients of all its dense blocks together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from deflow_cli.kernels import dispatch
from deflow_cli.layers.networks.compiling import maybe_compiled
from deflow_cli.layers.networks.rrdb import RRDB

CONVOLUTIONS = 5  # of a dense block
RELU_SLOPE = 0.2  # of the leaky ReLUs
RESIDUAL = 0.2  # what a block adds of its last convolution, and an RRDB of its last block
DENSE_BLOCKS = 3  # of an RRDB


class TrunkSettings(NamedTuple):
    """channels, growth: of the dense blocks. tapped: the RRDBs whose outputs are returned, in order.

    recompute: keep of every RRDB only its input, and compute the rest again in the backward pass.
    compiled: use compiled dense blocks.
    """

    channels: int
    growth: int
    tapped: tuple[int, ...]
    recompute: bool = False
    compiled: bool = False

    def inputs_of(self, index: int) -> int:
        """Channels that the convolution ``index`` (from 0) of a dense block sees."""
        return self.channels + index * self.growth

    def outputs_of(self, index: int) -> int:
        """Channels that it makes."""
        return self.growth if index < CONVOLUTIONS - 1 else self.channels


def rrdb_trunk(
    blocks: Iterable[nn.Module],
    x_bchw: Tensor,
    tapped: Sequence[int],
    *,
    recompute: bool = False,
    compiled: bool = False,
) -> list[Tensor]:
    """The outputs of the ``tapped`` RRDBs of a chain of equal ones, as the blocks compute them one by one.

    The values are those of the blocks, in x's type. In the backward pass the weight gradients of the first
    convolutions of all dense blocks are one operation, as are those of the second ones, and so on: a few
    kernels in place of some thousand. They are summed in float32 whatever x's type.
    """
    chain = [block for block in blocks if isinstance(block, RRDB)]
    convolutions = [
        dense.get_submodule(f"conv{index + 1}")
        for block in chain
        for dense in block.children()
        for index in range(CONVOLUTIONS)
    ]
    first, second = convolutions[0].weight, convolutions[1].weight
    assert isinstance(first, Tensor)
    assert isinstance(second, Tensor)
    settings = TrunkSettings(first.shape[1], first.shape[0], tuple(tapped), recompute, compiled)
    parameters = [conv.weight for conv in convolutions] + [conv.bias for conv in convolutions]
    with torch.autocast(x_bchw.device.type, enabled=False):
        return list(_Trunk.apply(x_bchw, settings, *parameters))


class _Trunk(torch.autograd.Function):
    """Keeps what each dense block's last convolution saw, which holds what the others saw."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, settings: TrunkSettings, *parameters: Tensor) -> tuple[Tensor, ...]:
        weights = _Weights.of(parameters, settings, x.dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.settings, ctx.weights, ctx.size = settings, weights, x.shape
        ctx.starts, ctx.seen = [], []
        outputs = {}
        for block in range(weights.dense_blocks // DENSE_BLOCKS):
            seen = _new_seen(x, settings, DENSE_BLOCKS)
            if settings.recompute:
                ctx.starts.append(x)
            else:
                ctx.seen.append(seen)
            x = _rrdb(x, seen, weights, block, settings)
            outputs[block] = x
        return tuple(outputs[block] for block in settings.tapped)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        settings: TrunkSettings = ctx.settings
        weights: _Weights = ctx.weights
        given: dict[int, Tensor] = {}
        for block, outer in zip(settings.tapped, grads, strict=True):
            if outer is not None:
                given[block] = given[block] + outer if block in given else outer
        blocks = weights.dense_blocks // DENSE_BLOCKS
        grad = weights.zeros_like_images(ctx.size)
        weight_grads: list[list[Tensor]] = []
        bias_grads: list[list[Tensor]] = []
        # one group of weight gradients for all blocks, or where memory counts one for each
        for group in reversed(
            [[block] for block in range(blocks)] if settings.recompute else [[*range(blocks)]]
        ):
            inner = [
                grad.new_empty(
                    (len(group), DENSE_BLOCKS, *_nhwc(grad).shape[:-1], settings.outputs_of(index))
                )
                for index in range(CONVOLUTIONS)
            ]
            seen = []
            for place, block in reversed(list(enumerate(group))):
                if settings.recompute:
                    tensor = _new_seen(grad, settings, DENSE_BLOCKS)
                    _rrdb(ctx.starts[block], tensor, weights, block, settings)
                else:
                    tensor = ctx.seen[block]
                seen.append(tensor)
                if (outer := given.get(block)) is not None:
                    grad = grad + outer
                grad = _rrdb_backward(grad, tensor, [g[place] for g in inner], weights, block, settings)
            stacked = seen[0] if len(seen) == 1 else torch.cat(seen[::-1])
            weight_grads.append([])
            bias_grads.append([])
            for index, g in enumerate(inner):
                g = g.flatten(0, 1)
                x = stacked[..., : settings.inputs_of(index)]
                weight_grads[-1].append(dispatch.weight_gradients(x, g, 3))
                bias_grads[-1].append(g.flatten(1, 3).sum(1, dtype=weight_grads[-1][-1].dtype))
        return grad, None, *_in_order(weight_grads[::-1]), *_in_order(bias_grads[::-1])


class _Weights(NamedTuple):
    """Weights (O I 3 3, channels last) and biases of the convolutions of each dense block, in one type."""

    weights: list[list[Tensor]]
    biases: list[list[Tensor]]

    @classmethod
    def of(cls, parameters: Sequence[Tensor], settings: TrunkSettings, dtype: torch.dtype) -> _Weights:
        half = len(parameters) // 2
        copies: list[Tensor] = []
        for parameter in parameters[:half]:
            memory = parameter.new_empty(
                (parameter.shape[0], 3, 3, parameter.shape[1]), dtype=dtype
            )  # as convolutions in channels-last order want it
            copies.append(memory.permute(0, 3, 1, 2))
        copies += [torch.empty_like(parameter, dtype=dtype) for parameter in parameters[half:]]
        torch._foreach_copy_(copies, list(parameters))
        dense = [copies[start : start + CONVOLUTIONS] for start in range(0, len(copies), CONVOLUTIONS)]
        return cls(dense[: len(dense) // 2], dense[len(dense) // 2 :])

    @property
    def dense_blocks(self) -> int:
        """How many there are."""
        return len(self.weights)

    def zeros_like_images(self, size: torch.Size) -> Tensor:
        zeros = self.weights[0][0].new_zeros(size)
        return zeros.contiguous(memory_format=torch.channels_last)


def _rrdb(x: Tensor, seen: Tensor, weights: _Weights, block: int, settings: TrunkSettings) -> Tensor:
    dense = maybe_compiled(_dense_block, settings.compiled)
    inner = x
    for index in range(DENSE_BLOCKS):
        at = DENSE_BLOCKS * block + index
        inner = dense(inner, _bchw(seen[index]), weights.weights[at], weights.biases[at])
    return x + RESIDUAL * inner


def _rrdb_backward(
    grad: Tensor,
    seen: Tensor,
    inner_grads: Sequence[Tensor],
    weights: _Weights,
    block: int,
    settings: TrunkSettings,
) -> Tensor:
    dense = maybe_compiled(_dense_block_backward, settings.compiled)
    inner = RESIDUAL * grad
    for index in reversed(range(DENSE_BLOCKS)):
        at = DENSE_BLOCKS * block + index
        targets = [_bchw(g[index]) for g in inner_grads]
        inner = dense(inner, _bchw(seen[index]), targets, weights.weights[at])
    return grad + inner


def _dense_block(x: Tensor, seen: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    """``ResidualDenseBlock.forward``; what its last convolution sees is written to ``seen``."""
    stack = x
    for index in range(CONVOLUTIONS - 1):
        y = F.leaky_relu(F.conv2d(stack, weights[index], biases[index], padding=1), RELU_SLOPE)
        into = seen if index == CONVOLUTIONS - 2 and not torch.compiler.is_compiling() else None
        stack = torch.cat((stack, y), dim=1, out=into)
    if torch.compiler.is_compiling():  # torch 2.7 compiles no output that is part of a larger tensor
        seen.copy_(stack)
    return x + RESIDUAL * F.conv2d(stack, weights[-1], biases[-1], padding=1)


def _dense_block_backward(
    grad: Tensor, seen: Tensor, inner_grads: list[Tensor], weights: list[Tensor]
) -> Tensor:
    """The gradient of a dense block's input; those of its convolutions' outputs go to ``inner_grads``."""
    growth = weights[0].shape[0]
    compiling = torch.compiler.is_compiling()  # as in ``_dense_block``
    if compiling:
        inner_grads[-1].copy_(RESIDUAL * grad)
    else:
        torch.mul(grad, RESIDUAL, out=inner_grads[-1])
    of_stack = _input_gradient(inner_grads[-1], seen, weights[-1])
    for index in reversed(range(CONVOLUTIONS - 1)):
        start = weights[index].shape[1]
        y = seen[:, start : start + growth]
        g = inner_grads[index]
        of_y = of_stack[:, start : start + growth]
        if compiling:
            g.copy_(torch.ops.aten.leaky_relu_backward(of_y, y, RELU_SLOPE, True))
        else:
            torch.ops.aten.leaky_relu_backward.grad_input(of_y, y, RELU_SLOPE, True, grad_input=g)
        of_stack = of_stack[:, :start] + _input_gradient(g, seen[:, :start], weights[index])
    return grad + of_stack


def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The gradient of a 3x3 convolution's input, of which only the shape counts."""
    return torch.ops.aten.convolution_backward(
        grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False]
    )[0]


def _new_seen(x: Tensor, settings: TrunkSettings, count: int) -> Tensor:
    """Memory for what the last convolutions of some dense blocks see: count B H W C."""
    return x.new_empty((count, *_nhwc(x).shape[:-1], settings.inputs_of(CONVOLUTIONS - 1)))


def _nhwc(x_bchw: Tensor) -> Tensor:
    return x_bchw.permute(0, 2, 3, 1)


def _bchw(x_nhwc: Tensor) -> Tensor:
    return x_nhwc.permute(0, 3, 1, 2)


def _in_order(groups: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Gradients stacked by convolution, group by group, as one tensor for each convolution of the chain."""
    blocks = [torch.unbind(stacked) for group in groups for stacked in group]
    result: list[Tensor] = []
    for start in range(0, len(blocks), CONVOLUTIONS):
        for dense in zip(*blocks[start : start + CONVOLUTIONS], strict=True):
            result += dense
    return result
