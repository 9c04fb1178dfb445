"""Condition encoder: from the conditioning image to the features that each level of a flow sees."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.config.model import EncoderConfig, FlowConfig
from deflow_cli.layers.networks.recompute import computed_anew
from deflow_cli.layers.networks.rrdb import RRDB, conv3x3
from deflow_cli.layers.networks.rrdb_trunk import rrdb_trunk
from deflow_cli.layers.networks.upsampled import LevelFeatures


class ConditionEncoder(nn.Module):
    """RRDB trunk at h's resolution and a pyramid over the flow's levels (SRFlow, ECCV 2020, section 3.3).

    h is the conditioning image: DeFlow's downsampled input, or the low-resolution image that SRFlow enlarges.
    extra_channels: of h, beyond the image's colours.

    Level l (1 is the finest, at H / 2^l) sees its own pyramid tensor followed by the outputs of the
    stacked trunk blocks, resized by nearest neighbour: ``EncoderConfig.feature_channels`` channels, or
    ``FlowConfig.condition_channels`` after a learned 1x1 projection per level where that is not 0.
    """

    def __init__(
        self,
        config: EncoderConfig,
        flow: FlowConfig,
        generator: torch.Generator | None = None,
        *,
        extra_channels: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.levels = flow.levels
        self.log2_downsample = int(math.log2(flow.downsample))
        self.autocast_dtype: torch.dtype | None = None
        self.trunk_together = False  # with gradients: whether the blocks are one operation (``rrdb_trunk``)
        self.compiled = False  # ... of compiled functions
        channels = config.channels
        self.conv_first = conv3x3(flow.in_channels + extra_channels, channels, generator)
        self.body = nn.ModuleList(
            RRDB(channels, config.growth_channels, generator) for _ in range(config.blocks)
        )
        self.conv_body = conv3x3(channels, channels, generator)
        self.up_convs = max(self.log2_downsample - 1, 0)
        for index in range(1, self.up_convs + 1):
            setattr(self, f"conv_up{index}", conv3x3(channels, channels, generator))
        self._projected_channels = flow.condition_channels
        self.project: nn.ModuleList | None = None
        if flow.condition_channels:
            self.project = nn.ModuleList(
                self._projection(config.feature_channels, flow.condition_channels, generator)
                for _ in range(flow.levels)
            )

    @staticmethod
    def _projection(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Conv2d:
        conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        with torch.no_grad():
            conv.weight.normal_(0.0, inputs**-0.5, generator=generator)
        return conv

    @property
    def feature_channels(self) -> int:
        """Channels of the features handed to the flow."""
        return self._projected_channels or self.config.feature_channels

    def forward(self, h_bchw: Tensor) -> list[Tensor]:
        """Features per level, finest first: (B, feature_channels, H / 2^l, W / 2^l)."""
        return [level.joined() for level in self.features(h_bchw)]

    def features(self, h_bchw: Tensor, *, recompute: bool = False) -> list[LevelFeatures]:
        """The same, with channels that were only enlarged still at h's resolution.

        recompute: keep for the backward pass what enters a block alone, and compute the rest anew there.
        """
        with torch.autocast(h_bchw.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
            trunk, stacked = self._trunk(h_bchw.contiguous(memory_format=torch.channels_last), recompute)
            pyramid = self._pyramid(trunk)
            levels = [self._level(index, pyramid[index], stacked) for index in range(self.levels)]
        return levels

    def finest(self, h_bchw: Tensor) -> Tensor:
        """The pyramid's finest tensor (B, channels, H / 2, W / 2), before any projection."""
        with torch.autocast(h_bchw.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
            trunk, _ = self._trunk(h_bchw.contiguous(memory_format=torch.channels_last), recompute=False)
            return self._pyramid(trunk)[0]

    def _trunk(self, h_bchw: Tensor, recompute: bool) -> tuple[Tensor, Tensor]:
        x = self.conv_first(h_bchw)
        if self.trunk_together and torch.is_grad_enabled():
            return self._trunk_together(x, recompute)
        outputs = {}
        for index, block in enumerate(self.body):
            x = computed_anew(block, x) if recompute else block(x)
            if index in self.config.stacked_blocks:
                outputs[index] = x
        # the skip joins the blocks' output, not conv_first's as in ESRGAN: what published weights expect
        trunk = x + self.conv_body(x)
        return trunk, torch.cat([outputs[index] for index in self.config.stacked_blocks], dim=1)

    def _trunk_together(self, x: Tensor, recompute: bool) -> tuple[Tensor, Tensor]:
        last = self.config.blocks - 1
        tapped = (*self.config.stacked_blocks, last)
        *outputs, x = rrdb_trunk(self.body, x, tapped, recompute=recompute, compiled=self.compiled)
        return x + self.conv_body(x), torch.cat(outputs, dim=1)

    def _pyramid(self, trunk: Tensor) -> list[Tensor]:
        """One tensor per level: upsampled by learned convolutions, or averaged down."""
        by_factor = {0: trunk}
        x = trunk
        for index in range(1, self.up_convs + 1):
            conv = getattr(self, f"conv_up{index}")
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
            by_factor[index] = x
        for level in range(self.log2_downsample + 1, self.levels + 1):
            by_factor[self.log2_downsample - level] = F.avg_pool2d(
                by_factor[self.log2_downsample - level + 1], 2
            )
        return [by_factor[self.log2_downsample - level] for level in range(1, self.levels + 1)]

    def _level(self, index: int, pyramid: Tensor, stacked: Tensor) -> LevelFeatures:
        size = pyramid.shape[-2:]
        if size[0] < stacked.shape[-2]:
            stacked = F.interpolate(stacked, size=size, mode="nearest")
        if self.project is None:
            if size[0] > stacked.shape[-2]:
                return LevelFeatures(pyramid, stacked)
            return LevelFeatures(torch.cat((pyramid, stacked), dim=1))
        # a 1x1 convolution commutes with nearest-neighbour resizing: project at the lower resolution
        weight = self.project[index].weight
        assert isinstance(weight, Tensor)
        channels = pyramid.shape[1]
        low = F.conv2d(stacked, weight[:, channels:])
        projected = F.conv2d(pyramid, weight[:, :channels])
        return LevelFeatures(projected + F.interpolate(low, size=size, mode="nearest"))
