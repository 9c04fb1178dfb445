"""Enlarging: bicubic enlargement of x, and its projection onto what shrinks to x again."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from deflow_cli.layers.networks.resize import bicubic_downsample

BACK_PROJECTIONS = 4  # of back-projection


def bicubic_upsample(x_bchw: Tensor, factor: int) -> Tensor:
    """Enlarge by the bicubic kernel, edge pixels repeated."""
    return F.interpolate(x_bchw, scale_factor=factor, mode="bicubic", align_corners=False)


def back_projected(y_bchw: Tensor, x_bchw: Tensor, factor: int, rounds: int = BACK_PROJECTIONS) -> Tensor:
    """Images near y whose downsampled versions are near x: y <- y + up(x - down(y)), several times.

    Each round shrinks the error of what bicubic enlargement can express (Irani and Peleg, 1991).
    """
    for _ in range(rounds):
        y_bchw = y_bchw + bicubic_upsample(x_bchw - bicubic_downsample(y_bchw, factor), factor)
    return y_bchw


def enlarged(x_bchw: Tensor, factor: int, how: Literal["none", "bicubic", "consistent"]) -> Tensor | None:
    """x enlarged: bicubically, or so that it shrinks to x again; None for none."""
    if how == "none":
        return None
    y = bicubic_upsample(x_bchw, factor)
    return y if how == "bicubic" else back_projected(y, x_bchw, factor)
