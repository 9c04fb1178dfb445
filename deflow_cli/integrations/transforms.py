"""Transforms: a degrader for torchvision's pipelines and data loaders."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from deflow_cli.errors import DataError, ShapeError
from deflow_cli.integrations.strength import Strength, Temperature

Picture = TypeVar("Picture", Tensor, NDArray[np.generic], Image.Image)


class DegradeTransform:
    """Gives pictures the degradation that a model has learned, in the type that they came in.

    Takes PIL images (grey and transparent ones too), arrays H x W or H x W x 3, and tensors C x H x W or B x
    C x H x W of 1 or 3 channels; whole numbers of 8 and 16 bits, or floats in [0, 1]. It pickles without the
    weights, which every worker of a DataLoader loads once. The arguments are ``Strength``'s.

    >>> from torchvision.transforms import Compose, RandomCrop
    >>> transform = Compose([RandomCrop(32), DegradeTransform(temperature=(0.6, 1.2), seed=7)])
    >>> transform(torch.rand(3, 40, 50)).shape
    torch.Size([3, 32, 32])
    >>> transform(Image.new("L", (50, 40), 128)).mode
    'L'
    """

    def __init__(
        self,
        model: str | Path | None = None,
        temperature: Temperature = 1.0,
        *,
        probability: float = 1.0,
        seed: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.strength = Strength.of(model, temperature, probability, seed, device)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.strength})"

    def __call__(self, picture: Picture) -> Picture:
        """The degraded picture: type, size, mode and range of values stay. Raises ShapeError, DataError."""
        if isinstance(picture, Tensor):
            return self._tensor(picture)
        if isinstance(picture, Image.Image):
            return self._pillow(picture)
        if not isinstance(picture, np.ndarray):
            raise DataError(
                f"a picture of type {type(picture).__name__}",
                next_step="pass a PIL image, an array or a tensor",
            )
        return self._array(picture)

    def _tensor(self, picture: Tensor) -> Tensor:
        if picture.dim() == 4:
            return torch.stack([self._tensor(one) for one in picture]) if len(picture) else picture
        if picture.dim() != 3 or picture.shape[0] not in (1, 3):
            raise ShapeError(f"a tensor of shape {tuple(picture.shape)}; expected 1 or 3 channels x H x W")
        top = _top(picture.dtype)
        values = picture.float() / top
        degraded = self.strength.degraded(values.expand(3, -1, -1).contiguous()).to(picture.device)
        if picture.shape[0] == 1:
            degraded = degraded.mean(0, keepdim=True)
        if picture.is_floating_point():
            return degraded.to(picture.dtype)
        return (degraded * top).round().to(picture.dtype)

    def _array(self, picture: NDArray[np.generic]) -> NDArray[np.generic]:
        flat = picture.ndim == 2
        if not flat and (picture.ndim != 3 or picture.shape[2] not in (1, 3)):
            raise ShapeError(f"an array of shape {picture.shape}; expected H x W, or H x W x 1 or 3")
        channels_last = picture[..., None] if flat else picture
        tensor = torch.from_numpy(channels_last.copy()).permute(2, 0, 1)  # PIL's may not be written to
        degraded = self._tensor(tensor).permute(1, 2, 0).contiguous().numpy()
        return degraded[..., 0] if flat else degraded

    def _pillow(self, picture: Image.Image) -> Image.Image:
        grey = picture.mode in ("1", "L", "LA", "La")
        colours = np.asarray(picture.convert("L" if grey else "RGB"))
        degraded = Image.fromarray(self._array(colours))
        if "A" in picture.getbands():
            degraded = degraded.convert(picture.mode)
            degraded.putalpha(picture.getchannel("A"))
        return degraded


def _top(dtype: torch.dtype) -> float:
    """The value that stands for 1. Raises DataError for a type that pictures do not have."""
    if dtype.is_floating_point:
        return 1.0
    if dtype in (torch.uint8, torch.uint16):
        return float(torch.iinfo(dtype).max)
    raise DataError(f"a picture of {dtype}", next_step="pass floats in [0, 1], or 8 or 16 bits without sign")
