"""Editing: an image's latents are changed and decoded with its own low frequencies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.config.editing import Edit
from deflow_cli.errors import DeflowError, ShapeError
from deflow_cli.inference.positional_noise import LatentNoise, stable_generator
from deflow_cli.layers.networks.resize import bicubic_downsample, pad_to_multiple
from deflow_cli.models.srflow.latents import (
    interpolated_latents,
    latent_masks,
    mixed_latents,
    normalised_latents,
    varied_latents,
)
from deflow_cli.models.srflow.model import SRFlow


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

    images: each 1 C H W, unclamped. pasted: the image with content pasted, as it was encoded; None but for
    ``transfer``. lr_psnr: of the 8-bit images and x, made small, in dB, one each.
    spread_before, spread_after: root mean square of the latents, inside the mask if there is one. That of
    samples is their temperature.
    """

    images: list[Tensor]
    pasted: Tensor | None
    lr_psnr: list[float]
    spread_before: float
    spread_after: float


def working_sides(model: SRFlow, height: int, width: int) -> tuple[int, int]:
    """Sides that an image is mirrored to, at right and bottom, before it is encoded: whole numbers of x's."""
    multiple = model.scale * model.size_multiple
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
        latents = session.finished(latents, len(images))
        y = coder.decode(latents, x).cpu()
        if edit.consistent:
            y = coder.projected(y.clamp(0, 1), x)
        images.append(y[..., :height, :width])
        lr_psnr.append(_psnr(low_resolution(y, coder.model.scale), x))
        spreads.append(session.spread_of(latents))
    pasted = None if session.pasted is None else session.pasted[..., :height, :width]
    return Edited(images, pasted, lr_psnr, session.spread, sum(spreads) / len(spreads))


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
        self._outside: Sequence[Tensor] | None = None  # latents where the mask is 0
        self.pasted: Tensor | None = None
        self.spread = 0.0

    def frames(self) -> Iterator[tuple[Sequence[Tensor], Tensor]]:
        """Latents, before they are normalised, and x, of each image to make."""
        if self.edit.mode == "interpolate":
            yield from self._between()
            return
        start = self._start()
        if self._masks is not None:
            # Latents of the pasted image would not do: beside the mask they belong to pasted pixels far from
            # x, and once those are normalised they decode to bright and dark dots.
            is_of_image = self.edit.mode in ("restore", "vary")
            self._outside = start if is_of_image else self._encode(self._image, self._x)
        self.spread = self.spread_of(start)
        for sample in range(self.edit.count):
            yield self._variation(start, sample) if self.edit.mode == "vary" else start, self._x

    def finished(self, latents: Sequence[Tensor], sample: int) -> list[Tensor]:
        """Latents normalised as the edit says, and outside the mask those of the image.

        The images of an interpolation share the draws.
        """
        drawn = 0 if self.edit.mode == "interpolate" else sample
        random = stable_generator(self.edit.seed, self.key, "moments", drawn)
        result = list(latents)
        for collection in self.edit.collections:
            chance = None if self.edit.deterministic else random
            result = normalised_latents(result, collection, self.edit.temperature, chance, self._masks)
        if self._masks is None or self._outside is None:
            return result
        return mixed_latents(result, self._outside, self._masks)

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
            self.pasted = self._mask * self._other + (1 - self._mask) * self._image
            return self._encode(self.pasted, self._x)
        if self.edit.mode == "style":
            assert self._other is not None
            return self._encode(self._other, low_resolution(self._other, self.coder.model.scale))
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
        return varied_latents(start, noise, self.edit.strength, self.edit.temperature)

    def _encode(self, y: Tensor, x: Tensor) -> list[Tensor]:
        latents = self.coder.encode(y, x)
        if not all(bool(torch.isfinite(z).all()) for z in latents):
            raise DeflowError(
                "the image's latents are not finite",
                next_step="use another model, or an image more like its own",
            )
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
    edit.check_inputs(has_other=other is not None, has_mask=mask is not None)
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
