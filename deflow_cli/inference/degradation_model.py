"""DegradationModel: a model as Python code uses it, on tensors of any size."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.errors import DataError, ShapeError
from deflow_cli.inference.precision import exact_convolutions
from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job, draw_components
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.inference.windows import Recorder
from deflow_cli.layers.networks.resize import pad_to_multiple
from deflow_cli.models.deflow.model import CLEAN, DEGRADED, Conditions, DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution


@dataclass(frozen=True)
class Encoded:
    """Latents of images and what decoding them needs.

    latents: finest first, each B C H W. conditions: of the images' h. size: height and width of the images
    before padding. degraded: the domain they were encoded as. log_det: log |det df/dx|, B.
    """

    latents: Sequence[Tensor]
    conditions: Conditions
    size: tuple[int, int]
    degraded: bool
    log_det: Tensor

    def with_latents(self, latents: Sequence[Tensor]) -> Encoded:
        """The same images with other latents, such as shifted ones."""
        return replace(self, latents=list(latents))


class FinishSample(Protocol):
    """The last step of a degraded sample, such as its compression; to be pickled, not a local function."""

    def __call__(self, image_chw: Tensor, seed: int, key: str, sample: int, temperature: float) -> Tensor:
        """A whole sample in [0, 1], finished: same shape, in [0, 1], a function of the arguments alone."""
        ...


class DegradationModel:
    """A fitted model: images are float tensors in [0, 1], B C H W, of any size; results are clamped to it.

    Nothing here is differentiated. ``generator`` is a torch.Generator; None is torch's default one, which
    DataLoader workers seed differently from each other. Can be pickled, and called as a transform.

    finish: called with every whole degraded sample as the last step; None: nothing is.
    """

    def __init__(
        self,
        model: DeFlow,
        device: torch.device | str = "cpu",
        facts: Mapping[str, Any] | None = None,
        tile: int | None = None,
        recorder: Recorder | None = None,
        finish: FinishSample | None = None,
    ) -> None:
        self._finish = finish
        self._translator = Translator(model, device, tile, recorder)
        self._shift = ShiftDistribution(self.model.prior)
        self.facts = dict(facts or {})

    @property
    def model(self) -> DeFlow:
        """The network itself."""
        return self._translator.model

    @property
    def device(self) -> torch.device:
        return self._translator.device

    def __call__(self, image: Tensor) -> Tensor:
        """One degraded sample of C H W or B C H W, as a transform: same shape, temperature 1."""
        return self.degrade(image[None])[0] if image.dim() == 3 else self.degrade(image)

    def degrade(
        self,
        image_bchw: Tensor,
        temperature: float = 1.0,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Degraded samples of clean images: B C H W, or with several samples B N C H W.

        Raises ShapeError for another layout, DataError for values that are not in [0, 1].
        """
        return self._translate(image_bchw, temperature, samples, generator, reverse=False)

    def restore(
        self,
        image_bchw: Tensor,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Clean images of degraded ones by the model's posterior, at temperature 0 its mean: B C H W."""
        return self._translate(image_bchw, temperature, 1, generator, reverse=True)

    @torch.no_grad()
    def encode(
        self, image_bchw: Tensor, generator: torch.Generator | None = None, *, degraded: bool = False
    ) -> Encoded:
        """Latents of images of one domain, with dequantisation noise of an 8-bit step and noisy h."""
        return self._encode(image_bchw, 255, generator, degraded)

    @torch.no_grad()
    def decode(self, encoded: Encoded, *, degraded: bool | None = None) -> Tensor:
        """Images of latents: B C H W. degraded: the domain they are of; None: the one they came from."""
        degraded = encoded.degraded if degraded is None else degraded
        with exact_convolutions(self.device):
            y = self.model.decode_conditioned(encoded.latents, encoded.conditions)
        y = y[..., : encoded.size[0], : encoded.size[1]]
        return (self.model.statistics.to_degraded(y) if degraded else y).clamp(0, 1)

    @torch.no_grad()
    def log_prob(
        self, image_bchw: Tensor, degraded: bool = False, generator: torch.Generator | None = None
    ) -> Tensor:
        """log p(image) in nats per image, as clean or as degraded: B.

        It is the density of the image with the dequantisation noise of the model's training, so
        ``model.model.nats_to_bits_per_dim`` applies. Sides that are no multiples are mirrored outwards, and
        the likelihood is scaled back to the image's own pixels.
        """
        encoded = self._encode(image_bchw, self.model.config.flow.quantization_levels, generator, degraded)
        prior = self.model.prior
        log_prior = prior.log_prob_degraded if degraded else prior.log_prob_clean
        log_prob = log_prior(encoded.latents) + encoded.log_det
        multiple = self.model.size_multiple
        height, width = encoded.size
        padded = math.prod(-(-side // multiple) * multiple for side in encoded.size)
        log_prob = log_prob * (height * width / padded)
        if degraded and self.model.statistics.active:  # the map to the clean statistics is part of f
            log_prob = log_prob + height * width * self.model.statistics.log_det
        return log_prob

    # -- how ------------------------------------------------------------------------------------------

    def _translate(
        self,
        image_bchw: Tensor,
        temperature: float,
        samples: int,
        generator: torch.Generator | None,
        reverse: bool,
    ) -> Tensor:
        images = self._checked(image_bchw)
        if samples < 1 or temperature < 0:
            raise DataError(f"samples={samples}, temperature={temperature}: at least 1, and not negative")
        seed = draw_seed(generator)
        keys = [image_key(image) for image in images]
        # the place in the batch too: an image given twice gives two samples
        noises = [ImageNoise(seed + index, key) for index, key in enumerate(keys)]
        components = [
            [self._translator.own_component(images[i : i + 1], noise)] * samples
            if reverse
            else draw_components(self._shift, seed + i, keys[i], samples)
            for i, noise in enumerate(noises)
        ]
        job = Job(self._shift, noises, components, [float(temperature)] * len(noises), reverse)
        result = torch.empty(images.shape[0], samples, *images.shape[1:], device=image_bchw.device)

        def write(sample: int, window: Window, piece: Tensor) -> None:
            result[:, sample][(..., *window.slices)] = piece.clamp(0, 1).to(result.device)

        self._translator.translate(images, job, range(samples), write)
        if self._finish is not None and not reverse:
            for index, key in enumerate(keys):
                for sample in range(samples):
                    whole = result[index, sample]
                    whole.copy_(self._finish(whole, seed + index, key, sample, temperature))
        return result[:, 0] if samples == 1 else result

    def _encode(
        self, image_bchw: Tensor, gray_levels: int, generator: torch.Generator | None, degraded: bool
    ) -> Encoded:
        model, image = self.model, self._checked(image_bchw)
        seed = draw_seed(generator)
        padded = pad_to_multiple(image.to(self.device), model.size_multiple)
        h = model.condition_image(padded, DEGRADED if degraded else CLEAN)
        x = model.statistics.to_clean(padded) if degraded else padded
        random = torch.Generator().manual_seed(seed)
        uniform = torch.rand(x.shape, generator=random) - 0.5
        normal = torch.randn(h.shape, generator=random)
        with exact_convolutions(self.device):
            conditions = model.prepare(h + model.config.flow.h_noise * normal.to(h))
            x = x + uniform.to(x) / gray_levels
            latents, log_det = model.encode_conditioned(x, conditions)
        height, width = image.shape[-2:]
        return Encoded(latents, conditions, (height, width), degraded, log_det)

    def _checked(self, image_bchw: Tensor) -> Tensor:
        channels = self.model.config.flow.in_channels
        if image_bchw.dim() != 4 or image_bchw.shape[1] != channels or 0 in image_bchw.shape:
            raise ShapeError(
                f"images of shape {tuple(image_bchw.shape)}; expected B x {channels} x H x W, none of them 0"
            )
        if not image_bchw.is_floating_point():
            raise DataError(f"images of {image_bchw.dtype}; expected float", next_step="divide by 255")
        image = image_bchw.detach().float()
        low, high = (float(value) for value in torch.aminmax(image))
        if not (low >= -0.01 and high <= 1.01):  # resizing may overshoot a little; NaN fails too
            raise DataError(
                f"images with values from {low:g} to {high:g}; expected 0 to 1",
                next_step="scale or clamp them",
            )
        return image.clamp(0, 1)


def draw_seed(generator: torch.Generator | None) -> int:
    """63 bits of a torch generator; None: the default one."""
    device = generator.device if generator is not None else torch.device("cpu")
    return int(torch.randint(0, 2**63 - 1, (), generator=generator, device=device))


def image_key(image_chw: Tensor) -> str:
    """A name for an image's content, which what is random about it but not sampled belongs to."""
    pixels = image_chw.detach().cpu().contiguous().numpy()
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()
