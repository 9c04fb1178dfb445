"""Reference operations of the flow in plain PyTorch: the definition every fused twin is tested against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class ScaleForm:
    """How a network's raw output becomes the positive scale of an affine coupling.

    published: sigmoid(raw + 2) + eps, as in the released models. bounded: exp(c atan(raw / c)), c = bound.

    >>> scale, log_scale = ScaleForm("bounded", bound=0.5)(torch.tensor([-1e6, 0.0, 1e6]))
    >>> [round(value, 3) for value in log_scale.tolist()]
    [-0.785, 0.0, 0.785]
    """

    kind: Literal["published", "bounded"] = "published"
    eps: float = 1e-3
    bound: float = 1.0

    def __call__(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (scale, log scale), each of raw's shape."""
        if self.kind == "published":
            return published_scale(raw, self.eps)
        return bounded_scale(raw, self.bound)


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


def coupling_forward(z_bchw: Tensor, raw_bchw: Tensor, form: ScaleForm) -> tuple[Tensor, Tensor]:
    """Encode y = z / scale - shift, with scale and shift read from a net's output (DeFlow, section 3.3).

    z_bchw: B C H W, any strides. raw_bchw: B 2C H W, or 1 2C H W shared by the batch; even channels are the
    shift, odd ones the raw scale that ``form`` makes positive. Narrower types are computed in float32.
    Returns (y of z's shape, log-det per sample, -sum(log scale), shape B).
    """
    z, shift, scale, log_scale = _coupling_terms(z_bchw, raw_bchw, form)
    y, log_det = affine_forward(z, scale, log_scale, shift)
    return y, log_det.expand(z.shape[0])


def coupling_inverse(z_bchw: Tensor, raw_bchw: Tensor, form: ScaleForm) -> tuple[Tensor, Tensor]:
    """Decode y = (z + shift) * scale: undoes ``coupling_forward``, whose arguments and types it shares.

    Returns (y of z's shape, log-det per sample, +sum(log scale), shape B).
    """
    z, shift, scale, log_scale = _coupling_terms(z_bchw, raw_bchw, form)
    y, log_det = affine_inverse(z, scale, log_scale, shift)
    return y, log_det.expand(z.shape[0])


def _coupling_terms(z: Tensor, raw: Tensor, form: ScaleForm) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    z, raw = _at_least_float32(z), _at_least_float32(raw)
    scale, log_scale = form(raw[:, 1::2])
    return z, raw[:, 0::2], scale, log_scale


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def weight_gradients(x_nbhwc: Tensor, grad_nbhwc: Tensor, side: int) -> Tensor:
    """Gradients of the weights of N convolutions of one shape: N O I side side, at least float32.

    Each convolution has a kernel of side x side (1 or 3), stride 1, and zero padding that keeps the size.
    x_nbhwc: their inputs, N B H W I. grad_nbhwc: the gradients of their outputs, N B H W O.
    """
    x, grad = _at_least_float32(x_nbhwc), _at_least_float32(grad_nbhwc)
    height, width = x.shape[2:4]
    grad_nop = grad.flatten(1, 3).mT
    border = side // 2
    padded = torch.nn.functional.pad(x, (0, 0, *(4 * (border,))))
    taps = [
        grad_nop @ padded[:, :, row : row + height, column : column + width].flatten(1, 3)
        for row in range(side)
        for column in range(side)
    ]
    return torch.stack(taps, dim=-1).unflatten(-1, (side, side))
