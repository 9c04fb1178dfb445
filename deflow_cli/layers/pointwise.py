"""Pointwise: 1x1 convolutions as matrix products over the positions."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def conv1x1(x_bchw: Tensor, weight_oi: Tensor, bias_o: Tensor, *, relu: bool = False) -> Tensor:
    """y = W x + b at each position, or what of it is positive: B O H W, channels last.

    Nothing is copied where x has its channels last too.
    """
    y = F.linear(x_bchw.permute(0, 2, 3, 1), weight_oi, bias_o)
    return (F.relu(y, inplace=True) if relu else y).permute(0, 3, 1, 2)
