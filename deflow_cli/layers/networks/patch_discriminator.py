"""Patch discriminator: a map of logits, each of which judges a patch (PatchGAN, pix2pix, CVPR 2017)."""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn

SLOPE = 0.2  # of every leaky ReLU
Normalisation = Literal["batch", "instance"]


class PatchDiscriminator(nn.Module):
    """A map of logits, each of a patch of 70 px (three layers): B x 1 x H / 8 - 2 x W / 8 - 2 (PatchGAN).

    normalisation: ``batch`` is the discriminator of RealSR and DeFlow for DPED, with their tensors' names,
    and learns batch statistics; ``instance`` is that of CycleGAN (ICCV 2017), whose convolutions all have a
    bias, for the normalisation has neither weights nor statistics.
    """

    def __init__(
        self,
        channels: int = 64,
        layers: int = 3,
        generator: torch.Generator | None = None,
        normalisation: Normalisation = "batch",
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        inputs = channels
        for layer in range(1, layers + 1):
            outputs = channels * min(2**layer, 8)
            stride = 2 if layer < layers else 1
            parts += [
                nn.Conv2d(inputs, outputs, 4, stride, 1, bias=normalisation == "instance"),
                normalise(normalisation, outputs),
                nn.LeakyReLU(SLOPE),
            ]
            inputs = outputs
        self.model = nn.Sequential(*parts, nn.Conv2d(inputs, 1, 4, 1, 1))
        draw_start(self, generator)

    def forward(self, images_bchw: Tensor) -> Tensor:
        return cast(Tensor, self.model(images_bchw))


def normalise(kind: Normalisation, channels: int) -> nn.Module:
    """A normalisation of feature maps: by the batch, with weights, or by each image alone, without any."""
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.InstanceNorm2d(channels)


def draw_start(module: nn.Module, generator: torch.Generator | None) -> None:
    """Draw all convolutions and linear layers as PyTorch's own start does, in the modules' order."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                fan_in = part.weight[0].numel()
                draw_uniform(part.weight, fan_in, generator)
                if part.bias is not None:
                    draw_uniform(part.bias, fan_in, generator)


def draw_uniform(tensor: Tensor, fan_in: int, generator: torch.Generator | None) -> None:
    """Fill a tensor uniformly within 1 / sqrt(fan_in), from ``generator``."""
    limit = math.sqrt(1 / fan_in)
    tensor.uniform_(-limit, limit, generator=generator)
