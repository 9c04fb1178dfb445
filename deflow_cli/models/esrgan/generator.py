"""Generator: RRDBNet, the network that restores (ESRGAN, ECCVW 2018)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.layers.networks.rrdb import RRDB, conv3x3
from deflow_cli.layers.networks.rrdb_trunk import rrdb_trunk


class RRDBNet(nn.Module):
    """Images B x C x H x W in [0, 1] to B x C x scale H x scale W, neither clamped nor activated.

    A trunk of RRDB blocks with a skip over all of them, then doublings by nearest neighbour, each followed
    by a convolution. With ``config.unshuffle_factor`` r > 1 the r x r pixels of a cell become channels first
    (Real-ESRGAN's x2 and x1), so that the trunk works at 1 / r of the size. The names of its tensors are
    those of BasicSR's files.
    """

    def __init__(self, config: RestorerConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.trunk_together = False  # with gradients: whether the blocks are one operation (``rrdb_trunk``)
        self.compiled = False  # ... of compiled functions
        channels, images = config.channels, config.image_channels
        self.conv_first = conv3x3(images * config.unshuffle_factor**2, channels, generator)
        self.body = nn.Sequential(
            *(RRDB(channels, config.growth_channels, generator) for _ in range(config.blocks))
        )
        self.conv_body = conv3x3(channels, channels, generator)
        for index in range(1, config.doublings + 1):
            setattr(self, f"conv_up{index}", conv3x3(channels, channels, generator))
        self.conv_hr = conv3x3(channels, channels, generator)
        self.conv_last = conv3x3(channels, images, generator)

    @property
    def scale(self) -> int:
        """Size of the output over the size of the input."""
        return self.config.scale

    @property
    def multiple(self) -> int:
        """Sides of the input that are a multiple of this need no padding; others are mirrored up to it."""
        return self.config.unshuffle_factor

    def forward(self, images_bchw: Tensor) -> Tensor:
        height, width = images_bchw.shape[-2:]
        x_bchw = self._pixels_as_channels(images_bchw)
        x_bchw = self.conv_first(x_bchw)
        x_bchw = x_bchw + self.conv_body(self._blocks(x_bchw))
        for index in range(1, self.config.doublings + 1):
            conv = self.get_submodule(f"conv_up{index}")
            x_bchw = F.leaky_relu(conv(F.interpolate(x_bchw, scale_factor=2, mode="nearest")), 0.2)
        x_bchw = self.conv_last(F.leaky_relu(self.conv_hr(x_bchw), 0.2))
        return cast(Tensor, x_bchw[..., : height * self.scale, : width * self.scale])

    def _blocks(self, x_bchw: Tensor) -> Tensor:
        if self.trunk_together and torch.is_grad_enabled():
            last = self.config.blocks - 1
            return rrdb_trunk(self.body, x_bchw, [last], compiled=self.compiled)[0]
        return cast(Tensor, self.body(x_bchw))

    def _pixels_as_channels(self, images_bchw: Tensor) -> Tensor:
        factor = self.multiple
        if factor == 1:
            return images_bchw
        height, width = images_bchw.shape[-2:]
        below, right = -height % factor, -width % factor
        if below or right:
            # an image no larger than the rim has not enough pixels to mirror
            mode = "reflect" if below < height and right < width else "replicate"
            images_bchw = F.pad(images_bchw, (0, right, 0, below), mode=mode)
        return F.pixel_unshuffle(images_bchw, factor)
