"""Pretraining: the encoder with the end of an ESRGAN generator, as a restorer that is trained by L1."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.layers.networks.rrdb import conv3x3
from deflow_cli.models.srflow.enlarging import bicubic_upsample
from deflow_cli.models.srflow.model import SRFlow


class RestorerHead(nn.Module):
    """From the encoder's finest features at half of y's sides to an image (SRFlow, ECCV 2020, section 3.3).

    Nearest-neighbour enlargement and three convolutions, as ESRGAN ends. It is dropped after the stage.
    """

    def __init__(self, channels: int, image_channels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.conv_up = conv3x3(channels, channels, generator)
        self.conv_hr = conv3x3(channels, channels, generator)
        self.conv_last = conv3x3(channels, image_channels, generator)

    def forward(self, finest_bchw: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv_up(F.interpolate(finest_bchw, scale_factor=2, mode="nearest")), 0.2)
        image: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))
        return image


def new_head(model: SRFlow, generator: torch.Generator | None = None) -> RestorerHead:
    """A head at its start, for a model's encoder."""
    return RestorerHead(model.config.encoder.channels, model.config.srflow.image_channels, generator)


def restored(model: SRFlow, head: RestorerHead, x_bchw: Tensor) -> Tensor:
    """The image that encoder and head make of x, beside the enlarged x where the flow's residual is so too.

    The strength of the noise on y, where the encoder sees one, is zero.
    """
    features = model.encoder.finest(model.encoder_input(x_bchw))
    with torch.autocast(
        x_bchw.device.type, model.encoder.autocast_dtype, enabled=model.encoder.autocast_dtype is not None
    ):
        image: Tensor = head(features)
    if model.config.srflow.residual == "none":
        return image.float()
    return image.float() + bicubic_upsample(x_bchw, model.scale)


def pretraining_loss(model: SRFlow, head: RestorerHead, y_bchw: Tensor, x_bchw: Tensor) -> Tensor:
    """Mean absolute difference of y and what encoder and head make of x."""
    return (restored(model, head, x_bchw) - y_bchw).abs().mean()
