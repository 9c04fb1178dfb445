"""Spatial LPIPS: the distance of `lpips.py` at every pixel, of many images against one reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from deflow_cli.errors import ShapeError
from deflow_cli.metrics.quality.lpips import Lpips


@dataclass(frozen=True)
class SpatialDistance:
    """LPIPS of one image at every pixel.

    map_hw: float32 H x W. plain: the LPIPS that papers print, the sum over layers of the mean of each layer's
    own map. It differs from the mean of ``map_hw`` by about 1e-4 of its value, because interpolation does not
    preserve a mean exactly.
    """

    map_hw: Tensor
    plain: float


class SpatialLpips:
    """LPIPS against one reference, as a map over pixels.

    Every layer's map of weighted squared differences is upsampled to the size of the image (bilinear,
    align_corners False), and the maps are summed, as the `lpips` package does with ``spatial=True``. The
    features of the reference are computed once. reference_chw: uint8 3 x H x W. Raises ShapeError where it
    is not, or is smaller than the network can take.
    """

    def __init__(self, lpips: Lpips, reference_chw: Tensor) -> None:
        if reference_chw.dtype != torch.uint8 or reference_chw.ndim != 3 or len(reference_chw) != 3:
            raise ShapeError(
                f"reference: {reference_chw.dtype} {tuple(reference_chw.shape)}, not uint8 3 x H x W"
            )
        self._shape = reference_chw.shape
        if reason := lpips.too_small(*self._shape[1:]):
            raise ShapeError(reason)
        self._lpips = lpips
        self._features = lpips.features(reference_chw)

    def __call__(self, image_chw: Tensor) -> SpatialDistance:
        """The distance of one uint8 image of the reference's shape. Raises ShapeError for another one."""
        if image_chw.dtype != torch.uint8 or image_chw.shape != self._shape:
            found = f"{image_chw.dtype} {tuple(image_chw.shape)}"
            raise ShapeError(f"image: {found}, not uint8 {tuple(self._shape)} as its reference")
        height, width = self._shape[1:]
        total = torch.zeros(height, width, device=self._features[0].device)
        plain = 0.0
        pairs = zip(self._lpips.features(image_chw), self._features, strict=True)
        for layer, (ours, theirs) in enumerate(pairs):
            distance_11hw = self._lpips.weighted((ours - theirs).square(), layer)
            plain += float(distance_11hw.mean())
            total += interpolate(distance_11hw, (height, width), mode="bilinear", align_corners=False)[0, 0]
        return SpatialDistance(total, plain)
