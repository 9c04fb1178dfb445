"""Frequencies: what a picture has of them, coarse for a loss on colours and fine for a discriminator."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from deflow_cli.errors import ConfigError

SIDE = 5  # px of the filters
SIGMA = 5 / 6  # px, of the Gaussian
SEPARATIONS = ("average", "gaussian", "wavelet")


class FrequencySplit:
    """A separation of frequencies: ``average`` (DSGAN), ``gaussian`` or ``wavelet`` (DASR).

    low: the coarse part, for the loss on colours. high: the fine part around 0.5, for the discriminator.

    * average: low, the 5 x 5 averages of whole windows, B x 3 x H - 4 x W - 4. high, 0.5 + 0.5 (x - A(x)),
      where A averages over those of the 25 pixels that lie inside the picture.
    * gaussian: the same with a 5 x 5 Gaussian of sigma 5/6; A takes 0 for what lies outside.
    * wavelet: one level of Haar. low, half the band LL, which is the mean of 2 x 2 pixels. high, 0.5 b + 0.5
      of LH, HL and HH one after the other, B x 9 x H / 2 x W / 2.
    """

    def __init__(self, kind: str) -> None:
        if kind not in SEPARATIONS:
            raise ConfigError(
                f"separation of frequencies {kind!r} is unknown",
                next_step=f"use one of {', '.join(SEPARATIONS)}",
            )
        self.kind = kind

    @property
    def high_channels(self) -> int:
        """Channels of the fine part."""
        return 9 if self.kind == "wavelet" else 3

    def low(self, image_bchw: Tensor) -> Tensor:
        """The coarse part, for the loss on colours."""
        if self.kind == "wavelet":
            return 0.5 * haar_bands(image_bchw)[0]
        if self.kind == "gaussian":
            return _gaussian(image_bchw, padding=0)
        return F.avg_pool2d(image_bchw, SIDE, stride=1)

    def high(self, image_bchw: Tensor) -> Tensor:
        """The fine part, for the discriminator."""
        if self.kind == "wavelet":
            return 0.5 * torch.cat(haar_bands(image_bchw)[1:], dim=1) + 0.5
        if self.kind == "gaussian":
            blurred = _gaussian(image_bchw, padding=SIDE // 2)
        else:
            blurred = F.avg_pool2d(image_bchw, SIDE, 1, SIDE // 2, count_include_pad=False)
        return 0.5 + 0.5 * (image_bchw - blurred)


def haar_bands(image_bchw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The bands LL, LH, HL, HH of one level of the orthonormal Haar wavelet, B x C x H / 2 x W / 2 each.

    LH is low along the rows and high down the columns, HL the other way. An odd side is first extended by
    its mirrored last pixel.
    """
    height, width = image_bchw.shape[-2:]
    if height % 2 or width % 2:
        image_bchw = F.pad(image_bchw, (0, width % 2, 0, height % 2), mode="reflect")
    top, bottom = image_bchw[..., 0::2, :], image_bchw[..., 1::2, :]
    a, b, c, d = top[..., 0::2], top[..., 1::2], bottom[..., 0::2], bottom[..., 1::2]
    return (a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2


def _gaussian(image_bchw: Tensor, padding: int) -> Tensor:
    offsets = torch.arange(SIDE, dtype=torch.float64) - SIDE // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    kernel = torch.outer(weights, weights)
    kernel = (kernel / math.fsum(kernel.flatten().tolist())).to(image_bchw)
    channels = image_bchw.shape[1]
    return F.conv2d(image_bchw, kernel.expand(channels, 1, SIDE, SIDE), padding=padding, groups=channels)
