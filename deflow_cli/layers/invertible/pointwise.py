"""Pointwise: 1x1 convolutions as matrix products over the positions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WIDE = 64  # channels from which oneDNN's convolution is faster than the product, on two threads by a third


def conv1x1(x_bchw: Tensor, weight_oi: Tensor, bias_o: Tensor, *, relu: bool = False) -> Tensor:
    """y = W x + b at each position, or what of it is positive: B O H W, channels last.

    Nothing is copied where x has its channels last too. With CUDA it is always the product, which is exact
    where convolutions may be TF32.
    """
    if x_bchw.device.type == "cpu" and len(weight_oi) >= WIDE:
        x_bchw = x_bchw.contiguous(memory_format=torch.channels_last)
        y_bchw = F.conv2d(x_bchw, weight_oi[:, :, None, None], bias_o)
    else:
        y_bchw = F.linear(x_bchw.permute(0, 2, 3, 1), weight_oi, bias_o).permute(0, 3, 1, 2)
    return F.relu(y_bchw, inplace=True) if relu else y_bchw
