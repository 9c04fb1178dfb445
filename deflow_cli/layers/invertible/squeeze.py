"""Squeeze: trade spatial size for channels; log-det zero."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from deflow_cli.errors import ShapeError
from deflow_cli.layers.invertible.base import Bijection, Condition


class Squeeze(Bijection):
    """Channel c, sub-position (i, j) goes to channel 4c + 2i + j; B C H W becomes B 4C H/2 W/2.

    Encoding raises ShapeError for odd sides.
    """

    def forward(self, x_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        height, width = x_bchw.shape[-2:]
        if height % 2 or width % 2:
            raise ShapeError(f"squeeze needs even sides, got {height}x{width}")
        z_bchw = F.pixel_unshuffle(x_bchw, 2).contiguous(memory_format=torch.channels_last)
        return z_bchw, x_bchw.new_zeros(x_bchw.shape[0])

    def inverse(self, z_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_shuffle(z_bchw, 2), z_bchw.new_zeros(z_bchw.shape[0])
