"""Generators: networks that turn clean pictures into degraded ones, one answer for each picture."""

from __future__ import annotations

from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from deflow_cli.config.translation import CycleGeneratorConfig, ResidualGeneratorConfig
from deflow_cli.errors import ShapeError
from deflow_cli.layers.networks.patch_discriminator import draw_start

CYCLE_START_STD = 0.02  # of CycleGAN's weights


class ResidualBlock(nn.Module):
    """x + conv(PReLU(conv(x))), 3 x 3, without normalisation; one slope for all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation = nn.PReLU()
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_bchw: Tensor) -> Tensor:
        return x_bchw + cast(Tensor, self.second(self.activation(self.first(x_bchw))))


class ResidualGenerator(nn.Module):
    """The generator of DSGAN (arXiv 1911.07850), and with a scale De-Resnet of DASR (arXiv 2004.01178).

    B x 3 x H x W in [0, 1] to B x 3 x H / scale x W / scale in (0, 1): a convolution and PReLU, residual
    blocks, for each halving of the size a convolution of stride 2 and PReLU, a convolution, a sigmoid. There
    is no way around the network. 594 380 parameters, 668 238 at x4. Start: PyTorch's defaults, drawn from
    ``generator``. Raises ShapeError for sides that are no multiples of the scale.
    """

    def __init__(self, config: ResidualGeneratorConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, channels = config, config.channels
        self.head = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.PReLU())
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(config.blocks)))
        halvings: list[nn.Module] = []
        for _ in range(self.halvings):
            halvings += [nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.PReLU()]
        self.down = nn.Sequential(*halvings)
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)
        draw_start(self, generator)

    @property
    def halvings(self) -> int:
        """How often the size is halved."""
        return self.config.scale.bit_length() - 1

    @property
    def scale(self) -> int:
        """How many times smaller than its input a result is."""
        return self.config.scale

    @property
    def multiple(self) -> int:
        """Sides of the input are multiples of it."""
        return self.config.scale

    @property
    def radius(self) -> int:
        """Pixels of the input, around the place of a result's pixel, on which that depends."""
        at_full_size = 1 + 2 * self.config.blocks
        halvings = sum(2**number for number in range(self.halvings))
        return at_full_size + halvings + self.config.scale

    def forward(self, images_bchw: Tensor) -> Tensor:
        check_sides_of(images_bchw, self.multiple)
        features = self.down(self.body(self.head(images_bchw)))
        return torch.sigmoid(cast(Tensor, self.tail(features)))


class CycleBlock(nn.Module):
    """x + IN(conv(ReLU(IN(conv(x))))), 3 x 3 with mirrored borders; IN: instance normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x_bchw: Tensor) -> Tensor:
        return x_bchw + cast(Tensor, self.layers(x_bchw))


class CycleGenerator(nn.Module):
    """CycleGAN's ResNet generator (ICCV 2017) between pictures in [0, 1], B x 3 x H x W, of the same size.

    Inside it works in [-1, 1] and ends in tanh. Without stages of stride 2 (``downsample`` 0, our choice for
    detail of the size of noise) all of it works at the pictures' size; 2 stages are the original. Weights
    start as N(0, 0.02), drawn from ``generator``, biases as 0. The normalisation takes means over the whole
    picture, so that a picture cannot be cut into tiles. Raises ShapeError for sides that do not fit, and
    below 4 px, or 2 px where the picture is smallest.
    """

    def __init__(self, config: CycleGeneratorConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, channels = config, config.channels
        parts: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, channels, 7)]
        parts += [nn.InstanceNorm2d(channels), nn.ReLU()]
        for _ in range(config.downsample):
            parts += [nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)]
            channels *= 2
            parts += [nn.InstanceNorm2d(channels), nn.ReLU()]
        parts += [CycleBlock(channels) for _ in range(config.blocks)]
        for _ in range(config.downsample):
            parts += [nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)]
            channels //= 2
            parts += [nn.InstanceNorm2d(channels), nn.ReLU()]
        self.layers = nn.Sequential(*parts, nn.ReflectionPad2d(3), nn.Conv2d(channels, 3, 7))
        self._start(generator)

    @torch.no_grad()
    def _start(self, generator: torch.Generator | None) -> None:
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
                draw_normal(part, generator)

    @property
    def scale(self) -> int:
        """Results have the size of their pictures."""
        return 1

    @property
    def multiple(self) -> int:
        """Sides of the input are multiples of it."""
        return int(2**self.config.downsample)

    @property
    def radius(self) -> None:
        """None: a pixel depends on all of the picture."""
        return None

    def forward(self, images_bchw: Tensor) -> Tensor:
        check_sides_of(images_bchw, self.multiple)
        height, width = images_bchw.shape[-2:]
        least = max(4, 2 * self.multiple)  # for the mirrored borders, and for a variance
        if min(height, width) < least:
            raise ShapeError(f"images of {width}x{height} px; CycleGAN's generator takes {least} px or more")
        return (torch.tanh(cast(Tensor, self.layers(2 * images_bchw - 1))) + 1) / 2


Generator: TypeAlias = ResidualGenerator | CycleGenerator


def draw_normal(part: nn.Conv2d | nn.ConvTranspose2d, generator: torch.Generator | None) -> None:
    """CycleGAN's start of a convolution: weights N(0, 0.02), no bias."""
    with torch.no_grad():
        if not part.weight.is_meta:  # there a normal draw would import torch's compiler for seconds
            part.weight.normal_(0, CYCLE_START_STD, generator=generator)
        if part.bias is not None:
            part.bias.zero_()


def check_sides_of(images_bchw: Tensor, multiple: int) -> None:
    """Raise ShapeError unless the pictures are B x 3 x H x W with sides that are multiples of a number."""
    height, width = images_bchw.shape[-2:]
    if images_bchw.dim() != 4 or images_bchw.shape[1] != 3:
        raise ShapeError(f"images of shape {tuple(images_bchw.shape)}; expected B x 3 x H x W")
    if height % multiple or width % multiple:
        raise ShapeError(f"images of {width}x{height} px; this generator takes multiples of {multiple}")
