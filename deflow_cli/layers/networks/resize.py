"""Sizes of images: bicubic downsampling as MATLAB's imresize does it, and padding, in torch."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from deflow_cli.errors import ShapeError

Rounding = Literal["none", "half-up", "half-even"]

_BORDER = 2  # output pixels the stretched kernel reaches over the edge


def _symmetric_index(size: int, before: int, after: int, device: torch.device) -> Tensor:
    """Indices that extend an axis as ``... c b a a b c ...``, however far it reaches."""
    position = torch.arange(-before, size + after, device=device) % (2 * size)
    return torch.where(position < size, position, 2 * size - 1 - position)


def _round(values: Tensor, rounding: Rounding) -> Tensor:
    if rounding == "none":
        return values
    rounded = torch.floor(values + 0.5) if rounding == "half-up" else torch.round(values)
    return rounded.clamp(0, 255)


def _downsample_axis(image_bchw: Tensor, factor: int, dim: int) -> Tensor:
    size = image_bchw.shape[dim]
    out = -(-size // factor)
    before = _BORDER * factor
    after = (out + 2 * _BORDER) * factor - size - before  # makes the padded axis a multiple of the factor
    index = _symmetric_index(size, before, after, image_bchw.device)
    padded = image_bchw.index_select(dim, index)
    sizes = list(padded.shape[-2:])
    sizes[dim - 2] = out + 2 * _BORDER
    scaled = F.interpolate(padded, size=sizes, mode="bicubic", antialias=True, align_corners=False)
    return scaled.narrow(dim, _BORDER, out)


def bicubic_downsample(image_bchw: Tensor, factor: int, *, rounding: Rounding = "none") -> Tensor:
    """Downsample by ``factor`` with the antialiased bicubic kernel (a = -0.5), height first, then width.

    image_bchw: floating, any H and W >= 1; edges are mirrored, edge pixel repeated. Returns
    B x C x ceil(H / factor) x ceil(W / factor) of the same dtype.

    rounding ``none``: any value scale, differentiable. ``half-up`` (MATLAB's uint8 imresize) and
    ``half-even``: values are on the 0 to 255 scale of uint8 and are rounded and clamped to it after
    each axis; the result holds whole numbers. Give float64 there: ties must be exact.

    Raises ShapeError if the image is not four-dimensional or empty, or the factor is below 1.
    """
    if image_bchw.dim() != 4 or 0 in image_bchw.shape[-2:]:
        raise ShapeError(
            f"an image of shape {tuple(image_bchw.shape)} cannot be downsampled; expected B x C x H x W"
        )
    if factor < 1:
        raise ShapeError(f"downsampling factor {factor} is not a whole number of at least 1")
    if factor == 1:
        return _round(image_bchw, rounding)
    rows = _round(_downsample_axis(image_bchw, factor, 2), rounding)
    return _round(_downsample_axis(rows, factor, 3), rounding)


def pad_to_multiple(image_bchw: Tensor, multiple: int) -> Tensor:
    """Pad right and bottom by mirroring (edge pixel repeated where too narrow) to multiples of a side."""
    height, width = image_bchw.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not (bottom or right):
        return image_bchw
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(image_bchw, (0, right, 0, bottom), mode=mode)
