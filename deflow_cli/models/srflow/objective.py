"""Objective: the negative log-likelihood that SRFlow is trained on, in bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from deflow_cli.layers.networks.resize import bicubic_downsample
from deflow_cli.models.srflow.model import SRFlow, log_standard_normal

GREY_LEVELS = 255.0
SMALLEST_ENERGY = (0.5 / 255) ** 2  # of local energies: half a grey level
EIGHT_BIT_STEP = 1 / 256  # of the uniform noise beside the Gaussian one of a drawn strength
SAMPLED_EVERY = 4  # of so many images of a batch, two samples are drawn


class DequantisationNoise(NamedTuple):
    """The random numbers of a batch, drawn beforehand, so that the objective is a function of tensors alone.

    uniform: in [-0.5, 0.5), normal and latent: standard normals, all B C H W of y. strength: in [0, 1), B.
    ``latent`` holds as many numbers as the latents of y, for samples that are drawn in training.
    """

    uniform: Tensor
    normal: Tensor
    strength: Tensor
    latent: Tensor


def draw_dequantisation(shape: Sequence[int] | torch.Size, random: torch.Generator) -> DequantisationNoise:
    """Noise for a batch of images y of a shape B C H W, on the generator's device."""
    size, device = tuple(shape), random.device
    return DequantisationNoise(
        torch.rand(size, generator=random, device=device) - 0.5,
        torch.randn(size, generator=random, device=device),
        torch.rand(size[:1], generator=random, device=device),
        torch.randn(size, generator=random, device=device),
    )


def dequantised(model: SRFlow, y_bchw: Tensor, noise: DequantisationNoise) -> tuple[Tensor, Tensor | None]:
    """y with the training's noise, and the strength that the model is told, 0 to 1 (B); None where it is not.

    The strength is of one value per image, from none to ``srflow.noise_std`` (SoftFlow, NeurIPS 2020).
    """
    srflow = model.config.srflow
    std = srflow.noise_std / GREY_LEVELS
    if srflow.noise == "uniform":
        return y_bchw + noise.uniform / srflow.noise_levels, None
    if srflow.noise == "gaussian":
        return y_bchw + std * noise.normal, None
    if srflow.noise == "strength":
        strength = noise.strength.view(-1, 1, 1, 1)
        return y_bchw + EIGHT_BIT_STEP * noise.uniform + std * strength * noise.normal, noise.strength
    return y_bchw, None


def published_nll(log_prob_b: Tensor, height: int, width: int, levels: int | None = None) -> Tensor:
    """The figure that published SRFlow trainings report: -log2 p per pixel position, not per dimension.

    levels: of the uniform noise on y, which enters by H W alone and not by 3 H W; None: no noise.
    """
    noise = 0.0 if levels is None else math.log(levels)
    return (noise - log_prob_b / (height * width)) / math.log(2.0)


@dataclass(frozen=True)
class SRFlowObjective:
    """The loss of a batch: bits per dimension of y given x, and what samples are asked to be like.

    Of every fourth image of the batch two samples are drawn at ``temperature``, of opposite latents z and -z,
    beside f^-1(0; x). texture: weight of ``texture_error`` of half their difference against what f^-1(0; x)
    lacks of y. consistency: weight of ``consistency_error`` of both. l1: weight of the mean absolute
    difference of y and f^-1(0; x). Likelihood alone leaves the detail of samples below temperature 1 too
    weak; the strength of samples themselves may be that of a pattern that does not depend on z. low_memory:
    networks are computed anew in the backward pass. batch_mean: over a batch of which the images may be a
    part.
    """

    model: SRFlow
    l1: float = 0.0
    texture: float = 0.0
    consistency: float = 0.0
    temperature: float = 0.8
    low_memory: bool = False
    batch_mean: Callable[[Tensor], Tensor] = Tensor.mean

    def __call__(
        self, y_bchw: Tensor, x_bchw: Tensor, noise: DequantisationNoise
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the figures to log: ``bits``, and those of the other terms where they count."""
        noisy, strength = dequantised(self.model, y_bchw, noise)
        latents, log_det = self.model.encode_for_training(noisy, x_bchw, strength, low_memory=self.low_memory)
        log_prob = log_standard_normal(latents) + log_det
        loss = self.model.bits_per_dim(log_prob, math.prod(y_bchw.shape[1:])).mean()
        figures = {"bits": loss}
        for name, (weight, figure) in self._of_decoded(y_bchw, x_bchw, latents, noise).items():
            figures[name] = figure
            loss = loss + weight * figure
        return loss, figures

    def _of_decoded(
        self, y_bchw: Tensor, x_bchw: Tensor, latents: Sequence[Tensor], noise: DequantisationNoise
    ) -> dict[str, tuple[float, Tensor]]:
        """Weight and figure of the terms that need images decoded with gradients, in one pass."""
        sampled = self.texture > 0 or self.consistency > 0
        if not (sampled or self.l1):
            return {}
        chosen = slice(None, None, SAMPLED_EVERY) if sampled else slice(None)
        y, x = y_bchw[chosen], x_bchw[chosen]
        factors = (0.0, self.temperature, -self.temperature) if sampled else (0.0,)
        normals = as_latents(noise.latent[chosen].to(y), [z.shape[1:] for z in latents])
        scaled = [torch.cat([factor * z for factor in factors]) for z in normals]
        repeated = x.repeat(len(factors), 1, 1, 1)
        decoded = self.model.decode(scaled, repeated, self.model.prepare(repeated))
        mild, samples = decoded[: len(y)], decoded[len(y) :]
        terms = {}
        if self.l1:
            terms["l1"] = self.l1, (mild - y).abs().mean()
        if self.texture:
            one, opposite = samples.chunk(2)
            error = texture_error(0.5 * (one - opposite), (y - mild).detach(), self.batch_mean)
            terms["texture"] = self.texture, error
        if self.consistency:
            error = consistency_error(samples, y.repeat(2, 1, 1, 1), self.model.scale)
            terms["consistency"] = self.consistency, error
        return terms


def as_latents(values_bchw: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Numbers of an image's shape, put into tensors of the latents' shapes, of as many numbers."""
    parts = values_bchw.flatten(1).split([math.prod(shape) for shape in shapes], dim=1)
    return [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]


def texture_error(
    detail_bchw: Tensor, true_bchw: Tensor, batch_mean: Callable[[Tensor], Tensor] = Tensor.mean
) -> Tensor:
    """How far the local strength of detail is from the true one; 0 where it is the same.

    Detail is what a 5 x 5 mean takes away. The squared difference of its local standard deviations over
    windows of 8 x 8, relative to the true ones of the batch, and the squared logarithm of the ratio of an
    image's energies: the first places texture, the second gives each image its energy. batch_mean: over a
    batch of which the images may be a part.
    """
    ours, true = (_local_energy(images) for images in (detail_bchw, true_bchw))
    placed = ((ours + SMALLEST_ENERGY).sqrt() - (true + SMALLEST_ENERGY).sqrt()).square().mean() / (
        batch_mean(true) + SMALLEST_ENERGY
    )
    by_image = [energy.mean((1, 2, 3)) + SMALLEST_ENERGY for energy in (ours, true)]
    ratio = torch.log(by_image[0] / by_image[1])
    return placed + ratio.square().mean()


def consistency_error(samples_bchw: Tensor, y_bchw: Tensor, scale: int) -> Tensor:
    """Mean squared difference, in grey levels, of samples and true images, both made small by bicubic.

    It is y that is made small, not x taken: x may be degraded, and samples are of what was before.
    """
    return (GREY_LEVELS * bicubic_downsample(samples_bchw - y_bchw, scale)).square().mean()


def _local_energy(images_bchw: Tensor) -> Tensor:
    detail = images_bchw - F.avg_pool2d(images_bchw, 5, 1, 2, count_include_pad=False)
    return F.avg_pool2d(detail.square(), 8)
