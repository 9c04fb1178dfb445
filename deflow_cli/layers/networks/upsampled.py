"""Upsampled: 3x3 convolutions of nearest-neighbour enlarged features, at their own resolution."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class LevelFeatures(NamedTuple):
    """What the nets of one level see of h: ``own`` (B C H W), then ``low`` (B C' H/f W/f) enlarged f times.

    f is a whole number of at least 2; without ``low`` there is no second part.
    """

    own: Tensor
    low: Tensor | None = None

    @property
    def factor(self) -> int:
        """f; 1 without a second part."""
        return 1 if self.low is None else self.own.shape[-1] // self.low.shape[-1]

    def joined(self) -> Tensor:
        """Both parts as one tensor (B C + C' H W), the way the published nets see them."""
        if self.low is None:
            return self.own
        return torch.cat((self.own, F.interpolate(self.low, size=self.own.shape[-2:], mode="nearest")), dim=1)

    def to(self, dtype: torch.dtype) -> LevelFeatures:
        """The same in another type."""
        return LevelFeatures(self.own.to(dtype), None if self.low is None else self.low.to(dtype))


class FeatureConv(NamedTuple):
    """A 3x3 convolution of level features, ready to be applied. factor: f, or 1 without ``low``."""

    own: Tensor
    bias: Tensor
    phases: PhaseKernels | None
    factor: int

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, channels: int, factor: int) -> FeatureConv:
        """weight: O C+C' 3 3, of the joined features, of which the first ``channels`` are own."""
        if factor == 1:
            return cls(weight, bias, None, 1)
        own = weight[:, :channels].contiguous()  # a view would keep the rest of the weight as well
        return cls(own, bias, phase_kernels(weight[:, channels:], factor), factor)

    def __call__(self, features: LevelFeatures) -> Tensor:
        """The convolution of the joined features with zero padding: B O H W."""
        y = F.conv2d(features.own, self.own, self.bias, padding=1)
        if features.low is None:
            return y
        assert self.phases is not None
        return add_conv3x3_of_upsampled(y, features.low, self.phases, self.factor)


class PhaseKernels(NamedTuple):
    """Sums of the taps of a 3x3 kernel (O C 3 3) that fall into the same cell of an enlarged image.

    corners: 4 O C 2 2, at (first row, first column), (last, first), (first, last), (last, last). Between
    those a pixel sees less; None for factor 2, where nothing is between: sides 2 O C 1 2, first and last
    column; ends 2 O C 2 1, first and last row; centre O C 1 1. Channels are last in memory.
    """

    corners: Tensor
    sides: Tensor | None = None
    ends: Tensor | None = None
    centre: Tensor | None = None


def phase_kernels(weight: Tensor, factor: int) -> PhaseKernels:
    """weight: O C 3 3."""
    last = weight.permute(0, 2, 3, 1)  # O 3 3 C
    rows = _end_taps(last, 1)
    kernels = [_end_taps(rows, 2)]
    if factor > 2:
        across = last.sum(1, keepdim=True)
        kernels += [_end_taps(across, 2), rows.sum(2, keepdim=True), across.sum(2, keepdim=True)]
    return PhaseKernels(*(kernel.permute(0, 3, 1, 2) for kernel in kernels))


def add_conv3x3_of_upsampled(y_bchw: Tensor, low_bchw: Tensor, kernels: PhaseKernels, factor: int) -> Tensor:
    """Add ``conv2d(interpolate(low, factor, "nearest"), weight, padding=1)`` to y, in place, by phases.

    y: B O factor*H factor*W, low: B C H W. Pixels at one place of their cells see the same few cells: the
    first row of a cell sees the cell above and its own, the last its own and the one below, those between
    their own alone. Per cell that is 25 taps (factor 2: 16) in place of 9 factor^2.
    """
    parts = [F.conv2d(low_bchw, kernels.corners, padding=1)]
    if factor > 2:
        assert kernels.sides is not None
        assert kernels.ends is not None
        assert kernels.centre is not None
        parts.append(F.conv2d(low_bchw, kernels.sides, padding=(0, 1)))
        parts.append(F.conv2d(low_bchw, kernels.ends, padding=(1, 0)))
        parts.append(F.conv2d(low_bchw, kernels.centre))
    return _AddPhases.apply(y_bchw, factor, *parts)


class _AddPhases(torch.autograd.Function):
    """Put the phases into their places of the cells; backward, collect the gradients from there."""

    @staticmethod
    def forward(y: Tensor, factor: int, *parts: Tensor) -> Tensor:
        for part, places in zip(parts, _places(y, factor), strict=False):
            for block, (target, window) in zip(_blocks(part, places), places, strict=True):
                target.add_(block[window][:, :, :, None, :, None])
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        y, ctx.factor, *parts = inputs
        ctx.mark_dirty(y)
        ctx.shapes = [part.shape for part in parts]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = []
        for shape, places in zip(ctx.shapes, _places(grad, ctx.factor), strict=False):
            part = grad.new_zeros(shape).contiguous(memory_format=torch.channels_last)
            for block, (source, window) in zip(_blocks(part, places), places, strict=True):
                block[window] = (
                    source.sum((3, 5)) if source.shape[3] * source.shape[5] > 1 else source[:, :, :, 0, :, 0]
                )
            grads.append(part)
        return grad, None, *grads


Place = tuple[Tensor, tuple[slice, ...]]


def _places(y: Tensor, factor: int) -> list[list[Place]]:
    """Where each kind of phase goes: views of y (B O H rows W columns), and the part of it that they take."""
    cells = y.unflatten(2, (-1, factor)).unflatten(4, (-1, factor))
    every, middle = slice(None), slice(1, -1)
    first, last = slice(0, 1), slice(factor - 1, factor)
    ends = ((first, slice(0, -1)), (last, slice(1, None)))  # in a cell; in what sees one cell more

    def place(row: slice, column: slice, rows: slice, columns: slice) -> Place:
        return cells[:, :, :, row, :, column], (every, every, rows, columns)

    corners = [place(row, column, rows, columns) for column, columns in ends for row, rows in ends]
    sides = [place(middle, column, every, columns) for column, columns in ends]
    outer = [place(row, middle, rows, every) for row, rows in ends]
    return [corners, sides, outer, [place(middle, middle, every, every)]]


def _blocks(part: Tensor, places: list[Place]) -> list[Tensor]:
    """The channels of each place: views that, unlike those of ``chunk``, autograd lets be written to."""
    size = part.shape[1] // len(places)
    return [part.narrow(1, index * size, size) for index in range(len(places))]


def _end_taps(weight: Tensor, dim: int) -> Tensor:
    """Three taps along ``dim`` as two: all kernels for a cell's first pixel, then all for its last."""
    a, b, c = weight.split(1, dim)
    return torch.cat((torch.cat((a, b + c), dim), torch.cat((a + b, c), dim)))
