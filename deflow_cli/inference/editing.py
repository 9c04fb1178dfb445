"""Editing: an image's latents are changed and decoded with its own low frequencies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.config.checks import check_choices
from deflow_cli.errors import ConfigError, DeflowError, ShapeError
from deflow_cli.inference.positional_noise import LatentNoise, stable_generator
from deflow_cli.layers.networks.resize import bicubic_downsample, pad_to_multiple
from deflow_cli.models.srflow.latents import (
    COLLECTIONS,
    Collection,
    check_temperature,
    interpolated_latents,
    latent_masks,
    mixed_latents,
    normalised_latents,
    varied_latents,
)
from deflow_cli.models.srflow.model import SRFlow

EditMode = Literal["transfer", "style", "restore", "interpolate", "vary"]

USUAL_NORMALISATION: dict[EditMode, tuple[Collection, ...]] = {
    "transfer": ("local",),
    "restore": ("spatial", "local"),
}
FRAMES = 5  # of an interpolation, both ends included
MOST_RESULTS = 99


@dataclass(frozen=True)
class Edit:
    """How an image is edited; which images and which mask are arguments of :func:`edited`.

    mode: what becomes of the latents z = f(y; x) of the image y, where x = d(y) is its small version.

    - ``transfer``: content of another image is pasted where the mask is, encoded with the x of the unedited
      image, normalised there, and decoded with that x.
    - ``style``: the latents of another image, encoded with its own x, are decoded with the x of this one.
    - ``restore``: the latents are normalised. A model of clean images finds noise and compression unlikely;
      normalised latents are those of a clean image with the same x.
    - ``interpolate``: images along the sphere between the latents of two images, with x interpolated
      linearly; without another image, between two samples of x.
    - ``vary``: sqrt(1 - a^2) z + a tau e, with a the ``strength`` and e standard normals.

    temperature: tau, the standard deviation that normalisation, samples and variations aim at. normalise:
    collections of latents to normalise, one after the other; None: as is usual for the mode (transfer local,
    restore spatial then local, else none). deterministic: normalise to mean 0 and variance tau^2 exactly,
    rather than to drawn ones. samples: images to make; None: 1, of an interpolation 5, both ends included.
    consistent: the results are projected onto the images that shrink to x.

    Raises ConfigError for values out of range, and for samples that would all be equal.

    >>> Edit("restore").collections
    ('spatial', 'local')
    """

    mode: EditMode
    temperature: float = 0.8
    normalise: tuple[Collection, ...] | None = None
    deterministic: bool = False
    strength: float = 0.3
    samples: int | None = None
    seed: int = 0
    consistent: bool = False

    def __post_init__(self) -> None:
        check_choices("edit", self)
        check_temperature(self.temperature)
        unknown = [name for name in self.collections if name not in COLLECTIONS]
        if unknown:
            raise ConfigError(f"--normalise {unknown[0]}: unknown", next_step=f"use {', '.join(COLLECTIONS)}")
        if not 0 <= self.strength <= 1:
            raise ConfigError(
                f"--strength is {self.strength:g}", next_step="use 0 (the image) to 1 (a sample)"
            )
        least = 2 if self.mode == "interpolate" else 1
        if not least <= self.count <= MOST_RESULTS:
            raise ConfigError(f"--samples is {self.count}", next_step=f"use {least} to {MOST_RESULTS}")
        if self.deterministic and not self.collections:
            raise ConfigError("--deterministic is nothing without --normalise", next_step="leave it out")
        draws = self.mode in ("interpolate", "vary") or (bool(self.collections) and not self.deterministic)
        if self.count > 1 and not draws:
            raise ConfigError(
                f"--samples is {self.count}, but nothing is drawn: all would be equal",
                next_step="use --samples 1, or --normalise without --deterministic",
            )

    @property
    def collections(self) -> tuple[Collection, ...]:
        """What is normalised, in order."""
        return USUAL_NORMALISATION.get(self.mode, ()) if self.normalise is None else self.normalise

    @property
    def count(self) -> int:
        """Images that are made."""
        if self.samples is not None:
            return self.samples
        return FRAMES if self.mode == "interpolate" else 1


class LatentCoder(Protocol):
    """Encodes and decodes images of any size: :class:`deflow_cli.inference.super_resolving.SuperResolver`."""

    @property
    def model(self) -> SRFlow: ...

    @property
    def device(self) -> torch.device: ...

    def encode(self, y_bchw: Tensor, x_bchw: Tensor) -> list[Tensor]: ...

    def decode(self, latents: Sequence[Tensor], x_bchw: Tensor) -> Tensor: ...

    def projected(self, y_bchw: Tensor, x_bchw: Tensor) -> Tensor: ...


class Edited(NamedTuple):
    """Images that were made, and what they were made of.

    images: each 1 C H W, unclamped. encoded: the image whose latents were changed, with what was pasted into
    it; None for an interpolation of samples. lr_psnr: of the 8-bit images and x, made small, in dB, one each.
    spread_before, spread_after: root mean square of the latents, inside the mask if there is one. That of
    samples is their temperature.
    """

    images: list[Tensor]
    encoded: Tensor | None
    lr_psnr: list[float]
    spread_before: float
    spread_after: float


def working_sides(coder: LatentCoder, height: int, width: int) -> tuple[int, int]:
    """Sides that an image is mirrored to, at right and bottom, before it is encoded: whole numbers of x's."""
    multiple = coder.model.scale * coder.model.size_multiple
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def low_resolution(y_bchw: Tensor, scale: int) -> Tensor:
    """d(y): the 8-bit image made small as MATLAB's imresize does, in [0, 1], float32."""
    whole = (y_bchw.detach().cpu().clamp(0, 1) * 255 + 0.5).floor().double()
    return (bicubic_downsample(whole, scale, rounding="half-up") / 255).float()


@torch.inference_mode()
def edited(
    coder: LatentCoder,
    edit: Edit,
    image_1chw: Tensor,
    other_1chw: Tensor | None = None,
    mask_11hw: Tensor | None = None,
    *,
    key: str = "0",
) -> Edited:
    """Edit one image; it, another image and a mask have the same sides, of any length.

    Images are float32 in [0, 1]. mask: 0 keeps the image, 1 edits it, values between mix what is pasted.
    Without a mask everything is edited; an interpolation has none. key: what the random numbers belong to
    beside the seed, such as an image's name.

    Raises ConfigError where the mode lacks an image or a mask, ShapeError where sides differ, DeflowError
    where values are not finite.
    """
    _check_arguments(edit, image_1chw, other_1chw, mask_11hw)
    height, width = image_1chw.shape[-2:]
    session = _Session(coder, edit, image_1chw, other_1chw, mask_11hw, key)
    images: list[Tensor] = []
    lr_psnr, spreads = [], []
    for latents, x in session.frames():
        latents = session.with_usual_moments(latents, len(images))
        y = coder.decode(latents, x).cpu()
        if edit.consistent:
            y = coder.projected(y.clamp(0, 1), x)
        images.append(y[..., :height, :width])
        lr_psnr.append(_psnr(low_resolution(y, coder.model.scale), x))
        spreads.append(session.spread_of(latents))
    encoded = None if session.encoded is None else session.encoded[..., :height, :width]
    return Edited(images, encoded, lr_psnr, session.spread, sum(spreads) / len(spreads))


class _Session:
    """One edit under way: the latents to begin with, and those of each image to make."""

    def __init__(
        self,
        coder: LatentCoder,
        edit: Edit,
        image: Tensor,
        other: Tensor | None,
        mask: Tensor | None,
        key: str,
    ) -> None:
        self.coder, self.edit, self.key = coder, edit, key
        multiple = coder.model.scale * coder.model.size_multiple
        self._noise = LatentNoise(edit.seed, key)
        self._image = pad_to_multiple(image, multiple)
        self._other = None if other is None else pad_to_multiple(other, multiple)
        self._mask = None if mask is None else pad_to_multiple(mask, multiple)
        self._x = low_resolution(self._image, coder.model.scale)
        self._masks: list[Tensor] | None = None
        if self._mask is not None:
            factors = [factor for _, factor in coder.model.flow.latent_plan]
            self._masks = [part.to(coder.device) for part in latent_masks(self._mask, factors)]
        self.encoded: Tensor | None = None
        self.spread = 0.0

    def frames(self) -> Iterator[tuple[Sequence[Tensor], Tensor]]:
        """Latents, before they are normalised, and x, of each image to make."""
        if self.edit.mode == "interpolate":
            yield from self._between()
            return
        start = self._start()
        self.spread = self.spread_of(start)
        for sample in range(self.edit.count):
            yield self._variation(start, sample) if self.edit.mode == "vary" else start, self._x

    def with_usual_moments(self, latents: Sequence[Tensor], sample: int) -> list[Tensor]:
        """Latents normalised as the edit says; the images of an interpolation share their draws."""
        drawn = 0 if self.edit.mode == "interpolate" else sample
        random = stable_generator(self.edit.seed, self.key, "moments", drawn)
        result = list(latents)
        for collection in self.edit.collections:
            chance = None if self.edit.deterministic else random
            result = normalised_latents(result, collection, self.edit.temperature, chance, self._masks)
        return result

    def spread_of(self, latents: Sequence[Tensor]) -> float:
        """Root mean square of the latents, where there is a mask of those that it covers."""
        masks = self._masks or [torch.ones_like(z[:, :1]) for z in latents]
        count = sum(float(mask.sum()) * z.shape[1] for z, mask in zip(latents, masks, strict=True))
        squares = [float((mask * z).double().square().sum()) for z, mask in zip(latents, masks, strict=True)]
        return math.sqrt(sum(squares) / max(count, 1))

    def _start(self) -> Sequence[Tensor]:
        """The latents that an image is encoded to, before anything random."""
        if self.edit.mode == "transfer":
            assert self._other is not None
            assert self._mask is not None
            return self._encode(self._mask * self._other + (1 - self._mask) * self._image, self._x)
        if self.edit.mode == "style":
            assert self._other is not None
            detail = self._encode(self._other, low_resolution(self._other, self.coder.model.scale))
            if self._masks is None:
                return detail
            return mixed_latents(detail, self._encode(self._image, self._x), self._masks)
        return self._encode(self._image, self._x)

    def _between(self) -> Iterator[tuple[Sequence[Tensor], Tensor]]:
        if self._other is None:
            first, second = (
                [self.edit.temperature * e for e in self._standard_normals(sample)] for sample in (0, 1)
            )
            x_other = self._x
        else:
            x_other = low_resolution(self._other, self.coder.model.scale)
            second = self._encode(self._other, x_other)
            first = self._encode(self._image, self._x)
        self.spread = (self.spread_of(first) + self.spread_of(second)) / 2
        for index in range(self.edit.count):
            share = index / (self.edit.count - 1)
            yield interpolated_latents(first, second, share), (1 - share) * self._x + share * x_other

    def _variation(self, start: Sequence[Tensor], sample: int) -> Sequence[Tensor]:
        noise = self._standard_normals(sample)
        found = varied_latents(start, noise, self.edit.strength, self.edit.temperature)
        return found if self._masks is None else mixed_latents(found, start, self._masks)

    def _encode(self, y: Tensor, x: Tensor) -> list[Tensor]:
        latents = self.coder.encode(y, x)
        if not all(bool(torch.isfinite(z).all()) for z in latents):
            raise DeflowError(
                "the image's latents are not finite",
                next_step="use another model, or an image more like its own",
            )
        self.encoded = y
        return latents

    def _standard_normals(self, sample: int) -> list[Tensor]:
        """As of the samples of this number, seed and key that the model gives for x."""
        model, device = self.coder.model, self.coder.device
        shapes = model.latent_shapes(*self._x.shape[-2:])
        return [
            self._noise.draw(index, sample, channels, Window(0, 0, height, width), device)
            for index, (channels, height, width) in enumerate(shapes)
        ]


def _check_arguments(edit: Edit, image: Tensor, other: Tensor | None, mask: Tensor | None) -> None:
    if edit.mode in ("transfer", "style") and other is None:
        raise ConfigError(f"{edit.mode} needs another image", next_step="pass one, of the same size")
    if edit.mode in ("restore", "vary") and other is not None:
        raise ConfigError(f"{edit.mode} takes one image alone", next_step="leave the other out")
    if edit.mode == "transfer" and mask is None:
        raise ConfigError("transfer needs a mask", next_step="pass one, 1 where content is pasted")
    if edit.mode == "interpolate" and mask is not None:
        raise ConfigError("interpolate takes no mask", next_step="leave it out")
    for name, tensor in (("image", image), ("other image", other), ("mask", mask)):
        if tensor is None:
            continue
        if tensor.dim() != 4 or tensor.shape[0] != 1 or tensor.shape[-2:] != image.shape[-2:]:
            raise ShapeError(
                f"the {name} has shape {tuple(tensor.shape)}; expected 1 x C x {image.shape[-2]} x "
                f"{image.shape[-1]}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise DeflowError(
                f"the {name} holds values that are not finite", next_step="use values in [0, 1]"
            )


def _psnr(small: Tensor, x: Tensor) -> float:
    error = float((small - x).mul(255).double().square().mean())
    return 10 * math.log10(255**2 / max(error, 1e-6))
