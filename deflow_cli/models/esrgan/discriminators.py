"""Discriminators: what tells restored images from real ones, as logits."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.errors import ConfigError, ShapeError
from deflow_cli.layers.networks.patch_discriminator import (
    SLOPE,
    PatchDiscriminator,
    draw_start,
    draw_uniform,
)

DISCRIMINATOR_KINDS = ("vgg", "patch", "unet")


def build_discriminator(
    kind: str, size: int, channels: int = 64, generator: torch.Generator | None = None
) -> nn.Module:
    """A discriminator of images B x 3 x size x size. kind: vgg | patch | unet. Raises ConfigError for others.

    Start: PyTorch's defaults (uniform within 1 / sqrt(fan_in)), drawn from ``generator``.
    """
    if kind == "vgg":
        return VggDiscriminator(size, channels, generator)
    if kind == "patch":
        return PatchDiscriminator(channels, generator=generator)
    if kind == "unet":
        return UnetDiscriminator(channels, generator)
    raise ConfigError(
        f"discriminator {kind!r} is not known", next_step=f"use one of {', '.join(DISCRIMINATOR_KINDS)}"
    )


class VggDiscriminator(nn.Module):
    """One logit an image, B x 1: pairs of convolutions that halve the size to 4 px, then two linear layers.

    The discriminator of RealSR and DeFlow (size 128) and BasicSR (128 and 256), with their tensors' names.
    Other sizes have a stage less or more; sizes such as 96 end at 3 px. It learns batch statistics: at least
    two images a batch. Raises ConfigError for a size that cannot be halved so.
    """

    def __init__(self, size: int = 128, channels: int = 64, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.size = size
        self.stages, rest = _stages(size)
        inputs = 3
        for stage in range(self.stages):
            outputs = channels * min(2**stage, 8)
            first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=stage == 0)
            setattr(self, f"conv{stage}_0", first)
            if stage:
                setattr(self, f"bn{stage}_0", nn.BatchNorm2d(outputs))
            setattr(self, f"conv{stage}_1", nn.Conv2d(outputs, outputs, 4, 2, 1, bias=False))
            setattr(self, f"bn{stage}_1", nn.BatchNorm2d(outputs))
            inputs = outputs
        self.linear1 = nn.Linear(inputs * rest * rest, 100)
        self.linear2 = nn.Linear(100, 1)
        _start(self, generator)

    def forward(self, images_bchw: Tensor) -> Tensor:
        if images_bchw.shape[-2:] != (self.size, self.size):
            height, width = images_bchw.shape[-2:]
            raise ShapeError(f"images are {width}x{height}, this discriminator takes {self.size}x{self.size}")
        x_bchw = images_bchw
        for stage in range(self.stages):
            for half in (0, 1):
                x_bchw = self.get_submodule(f"conv{stage}_{half}")(x_bchw)
                if stage or half:
                    x_bchw = self.get_submodule(f"bn{stage}_{half}")(x_bchw)
                x_bchw = F.leaky_relu(x_bchw, SLOPE)
        return cast(Tensor, self.linear2(F.leaky_relu(self.linear1(x_bchw.flatten(1)), SLOPE)))


def _stages(size: int) -> tuple[int, int]:
    """How often a size is halved until it is 4 px or less, and what is left."""
    stages, rest = 0, size
    while rest > 4 and rest % 2 == 0:
        stages, rest = stages + 1, rest // 2
    if rest > 4 or stages == 0:
        raise ConfigError(
            f"the vgg discriminator cannot take {size} px: halvings must lead to 3 or 4",
            next_step="use 128, or 32, 48, 64, 96, 192 or 256; or the discriminator patch or unet",
        )
    return stages, rest


class UnetDiscriminator(nn.Module):
    """A logit a pixel, B x 1 x H x W: a U-Net under spectral norm (Real-ESRGAN, ICCVW 2021).

    Sides must be a multiple of 8. The tensors have the names of Real-ESRGAN's files.
    """

    def __init__(self, channels: int = 64, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, channels, 3, padding=1)
        for index in (1, 2, 3):
            inputs = channels * 2 ** (index - 1)
            setattr(self, f"conv{index}", SpectralConv2d(inputs, 2 * inputs, 4, stride=2))
        for index in (4, 5, 6):
            inputs = channels * 2 ** (7 - index)
            setattr(self, f"conv{index}", SpectralConv2d(inputs, inputs // 2, 3))
        self.conv7 = SpectralConv2d(channels, channels, 3)
        self.conv8 = SpectralConv2d(channels, channels, 3)
        self.conv9 = nn.Conv2d(channels, 1, 3, padding=1)
        _start(self, generator)

    def forward(self, images_bchw: Tensor) -> Tensor:
        height, width = images_bchw.shape[-2:]
        if height % 8 or width % 8:
            raise ShapeError(f"images are {width}x{height}, the U-Net discriminator takes multiples of 8")
        x_bchw = F.leaky_relu(self.conv0(images_bchw), SLOPE)
        skips = []
        for index in (1, 2, 3):
            skips.append(x_bchw)
            x_bchw = F.leaky_relu(self.get_submodule(f"conv{index}")(x_bchw), SLOPE)
        for index in (4, 5, 6):
            x_bchw = F.interpolate(x_bchw, scale_factor=2, mode="bilinear", align_corners=False)
            x_bchw = F.leaky_relu(self.get_submodule(f"conv{index}")(x_bchw), SLOPE) + skips.pop()
        x_bchw = F.leaky_relu(self.conv7(x_bchw), SLOPE)
        return cast(Tensor, self.conv9(F.leaky_relu(self.conv8(x_bchw), SLOPE)))


class SpectralConv2d(nn.Module):
    """A convolution without bias whose weight is divided by its largest singular value (ICLR 2018).

    One step of power iteration per forward pass in training, none in evaluation. The tensors are named as by
    ``torch.nn.utils.spectral_norm``, whose hook this replaces: it can be copied and takes a generator.
    """

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight_orig = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.register_buffer("weight_u", torch.empty(outputs))
        self.register_buffer("weight_v", torch.empty(inputs * kernel * kernel))
        self.start(None)

    def start(self, generator: torch.Generator | None) -> None:
        """Draw the weight as PyTorch does, and the singular vectors at random."""
        with torch.no_grad():
            draw_uniform(self.weight_orig, self.weight_orig[0].numel(), generator)
            for vector in (self.weight_u, self.weight_v):
                if not vector.is_meta:  # there a normal draw would import torch's compiler for seconds
                    vector.copy_(F.normalize(vector.normal_(generator=generator), dim=0, eps=1e-12))

    def forward(self, x_bchw: Tensor) -> Tensor:
        return F.conv2d(x_bchw, self.weight(), stride=self.stride, padding=1)

    def weight(self) -> Tensor:
        """The normalised weight, in float32 always; in training the singular vectors move one step."""
        with torch.autocast(self.weight_orig.device.type, enabled=False):
            matrix = self.weight_orig.flatten(1)
            if self.training:
                with torch.no_grad():
                    self.weight_v.copy_(F.normalize(torch.mv(matrix.t(), self.weight_u), dim=0, eps=1e-12))
                    self.weight_u.copy_(F.normalize(torch.mv(matrix, self.weight_v), dim=0, eps=1e-12))
            # clones: a second forward pass before backward moves the vectors in place
            u, v = self.weight_u.clone(), self.weight_v.clone()
            return self.weight_orig / torch.dot(u, torch.mv(matrix, v))


def _start(module: nn.Module, generator: torch.Generator | None) -> None:
    """Draw all weights as PyTorch's own start does, in the modules' order, from ``generator``."""
    for part in module.modules():
        if isinstance(part, SpectralConv2d):
            part.start(generator)
        elif isinstance(part, nn.Conv2d | nn.Linear):
            draw_start(part, generator)
