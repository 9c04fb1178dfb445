"""Pointwise: 1x1 convolutions as matrix products over the positions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Output channels from which oneDNN's convolution is faster than the product: by a third on two threads.
WIDE_CHANNELS = 64


def conv1x1(x_bchw: Tensor, weight_oi: Tensor, bias_o: Tensor, *, relu: bool = False) -> Tensor:
    """y = W x + b at each position, with ``relu`` its ReLU: B O H W, in channels-last memory order.

    Nothing is copied if x is in channels-last order too. On CUDA it is always a matrix product, which stays
    float32 where a convolution might use TF32.
    """
    if x_bchw.device.type == "cpu" and len(weight_oi) >= WIDE_CHANNELS:
        x_bchw = x_bchw.contiguous(memory_format=torch.channels_last)
        y_bchw = F.conv2d(x_bchw, weight_oi[:, :, None, None], bias_o)
    else:
        y_bchw = F.linear(x_bchw.permute(0, 2, 3, 1), weight_oi, bias_o).permute(0, 3, 1, 2)
    return F.relu(y_bchw, inplace=True) if relu else y_bchw
