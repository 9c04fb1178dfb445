"""Degraders: DeFlow and its rivals behind one protocol; the same (seed, key, sample) is the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from deflow_cli.degraders.patches import TRAINING_CROP, NoisePatches
from deflow_cli.degraders.spectral import PATCH, SpectralNoise
from deflow_cli.errors import ConfigError, ShapeError
from deflow_cli.inference.positional_noise import PositionalNoise, stable_generator
from deflow_cli.inference.sampling import ImageNoise, Job, Translator
from deflow_cli.inference.shift import ShiftLaw
from deflow_cli.inference.tiling import Window
from deflow_cli.models.deflow.model import DeFlow

DegraderName = Literal["deflow", "white-noise", "spectral", "noise-patches", "none"]
DEGRADERS: tuple[DegraderName, ...] = ("deflow", "white-noise", "spectral", "noise-patches", "none")


@dataclass(frozen=True)
class Draw:
    """What makes one degraded picture the one it is.

    key: what the randomness belongs to, such as the picture's name. sample: which degradation of it.
    temperature: strength of the noise; 1 is the degrader as it is, 0 has nothing random left.
    """

    seed: int
    key: str
    sample: int = 0
    temperature: float = 1.0


class Degrader(Protocol):
    """Gives clean pictures a degradation.

    A result depends on the picture and its draw alone, not on the batch, the order or the tiles: it can be
    had again at any time, in any process.
    """

    def degrade(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        """Degrade B x 3 x H x W, float32 in [0, 1], a draw for each: same shape and device, in [0, 1].

        Raises ShapeError for another layout or another number of draws.
        """
        ...


@dataclass(frozen=True)
class NoDegradation:
    """The picture itself: what a degraded data set is compared with."""

    def degrade(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        _check(image_bchw, draws)
        return image_bchw.clone()


@dataclass(frozen=True)
class WhiteNoiseDegrader:
    """White Gaussian noise, independent per pixel and channel, of std ``sigma`` ([0, 1] scale)."""

    sigma: float

    def degrade(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        _check(image_bchw, draws)
        height, width = image_bchw.shape[-2:]
        noise = [
            self.sigma
            * draw.temperature
            * PositionalNoise(draw.seed, draw.key).normal(f"white {draw.sample}", 3, 0, 0, height, width)
            for draw in draws
        ]
        return _add(image_bchw, torch.cat(noise))


@dataclass(frozen=True)
class SpectralDegrader:
    """Stationary Gaussian noise of a given spectrum (see ``SpectralNoise``), times the temperature."""

    noise: SpectralNoise

    def degrade(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        _check(image_bchw, draws)
        height, width = image_bchw.shape[-2:]
        size = (height + PATCH - 1, width + PATCH - 1)
        response = torch.fft.rfft2(self.noise.filter_cctt, s=size)
        noise = []
        for draw in draws:
            source = PositionalNoise(draw.seed, draw.key)
            white = source.normal(f"spectral {draw.sample}", 3, 0, 0, *size)[0].double()
            filtered = torch.fft.irfft2(
                torch.einsum("oiyx,iyx->oyx", response, torch.fft.rfft2(white)), s=size
            )
            # circular convolution is exact where the kernel does not wrap: from its last tap on
            noise.append(draw.temperature * filtered[:, PATCH - 1 :, PATCH - 1 :])
        return _add(image_bchw, torch.stack(noise))


@dataclass(frozen=True)
class NoisePatchDegrader:
    """Noise patches of ``cell`` px side by side, each drawn for its place, times the temperature.

    A picture of ``cell`` px gets one patch, as each training crop does in the published recipe.
    """

    patches: NoisePatches
    cell: int

    def degrade(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        _check(image_bchw, draws)
        noise = torch.zeros(image_bchw.shape)
        for own, draw in zip(noise, draws, strict=True):
            for row, top in enumerate(range(0, own.shape[1], self.cell)):
                for column, left in enumerate(range(0, own.shape[2], self.cell)):
                    generator = stable_generator(draw.seed, draw.key, "patch", draw.sample, row, column)
                    place = own[:, top : top + self.cell, left : left + self.cell]
                    patch = torch.from_numpy(self.patches.draw(self.cell, generator))
                    place += draw.temperature * patch[:, : place.shape[1], : place.shape[2]]
        return _add(image_bchw, noise)


class FlowDegrader:
    """A fitted DeFlow: latents of the clean picture, shifted, decoded. tile: as ``Translator`` has it."""

    def __init__(self, model: DeFlow, device: torch.device | str = "cpu", tile: int | None = None) -> None:
        self.translator = Translator(model, device, tile)
        self._law = ShiftLaw(model.prior)

    def job(self, draws: Sequence[Draw]) -> Job:
        """What the translator is to do for these draws, in its sample 0."""
        noises = [_Sample(draw) for draw in draws]
        components = [self._law.components(d.seed, d.key, d.sample + 1)[d.sample :] for d in draws]
        return Job(self._law, noises, components, [draw.temperature for draw in draws])

    def degrade(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        _check(image_bchw, draws)
        result = torch.empty(image_bchw.shape, dtype=torch.float32, device=image_bchw.device)

        def write(_: int, window: Window, piece: Tensor) -> None:
            result[(..., *window.slices)] = piece.clamp(0, 1).to(result.device)

        self.translator.translate(image_bchw.float(), self.job(draws), [0], write)
        return result


class _Sample(ImageNoise):
    """The noise of one sample of an image, whatever its number in the batch's job is."""

    def __init__(self, draw: Draw) -> None:
        super().__init__(draw.seed, draw.key)
        self._sample = draw.sample

    def latent(self, index: int, sample: int, channels: int, window: Window) -> Tensor:
        return super().latent(index, self._sample, channels, window)


def make_degrader(
    name: str,
    *,
    model: DeFlow | None = None,
    device: torch.device | str = "cpu",
    tile: int | None = None,
    sigma: float | None = None,
    spectral: SpectralNoise | None = None,
    patches: NoisePatches | None = None,
    scale: int = 4,
) -> Degrader:
    """The degrader of a name, from what it alone needs: model, sigma, spectral or patches.

    scale: of the data set; noise patches are 128 / scale px, as the published training crops. Raises
    ConfigError for an unknown name or patches smaller than that.
    """
    if name == "none":
        return NoDegradation()
    if name == "deflow":
        assert model is not None
        return FlowDegrader(model, device, tile)
    if name == "white-noise":
        assert sigma is not None
        return WhiteNoiseDegrader(sigma)
    if name == "spectral":
        assert spectral is not None
        return SpectralDegrader(spectral)
    if name == "noise-patches":
        assert patches is not None
        cell = TRAINING_CROP // scale
        if patches.side < cell:
            raise ConfigError(
                f"noise patches of {patches.side} px are smaller than the {cell} px needed at scale {scale}",
                next_step=f"use --patch-size {cell} or more",
            )
        return NoisePatchDegrader(patches, cell)
    raise ConfigError(f"degrader {name!r} is unknown", next_step=f"use one of {', '.join(DEGRADERS)}")


def _check(image_bchw: Tensor, draws: Sequence[Draw]) -> None:
    if image_bchw.dim() != 4 or image_bchw.shape[1] != 3 or 0 in image_bchw.shape:
        raise ShapeError(f"images of shape {tuple(image_bchw.shape)}; expected B x 3 x H x W, none of them 0")
    if len(draws) != image_bchw.shape[0]:
        raise ShapeError(f"{len(draws)} draws for {image_bchw.shape[0]} images")


def _add(image_bchw: Tensor, noise_bchw: Tensor) -> Tensor:
    return (image_bchw + noise_bchw.to(image_bchw)).clamp(0, 1)
