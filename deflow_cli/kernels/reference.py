"""Reference operations of the flow in plain PyTorch: the definition every fused twin is tested against."""

from __future__ import annotations

import torch
from torch import Tensor


def published_scale(raw: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Scale sigmoid(raw + 2) + eps and its logarithm. Any shape; eps keeps the inverse below 1 / eps."""
    scale = torch.sigmoid(raw + 2.0) + eps
    return scale, torch.log(scale)


def bounded_scale(raw: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Scale exp(c atan(raw / c)) and its logarithm, which stays within +-c pi / 2. Any shape."""
    log_scale = bound * torch.atan(raw / bound)
    return torch.exp(log_scale), log_scale


def affine_forward(z_bchw: Tensor, scale: Tensor, log_scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Encode z / scale - shift; log-det per sample, -sum(log scale). All tensors broadcast to z's shape."""
    return z_bchw / scale - shift, -log_scale.flatten(1).sum(1)


def affine_inverse(z_bchw: Tensor, scale: Tensor, log_scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Decode (z + shift) * scale; log-det per sample, +sum(log scale)."""
    return (z_bchw + shift) * scale, log_scale.flatten(1).sum(1)
