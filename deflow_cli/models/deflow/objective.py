"""Objective: the negative log-likelihoods that DeFlow is trained on, in bits per dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from deflow_cli.models.deflow.model import DEGRADED, DeFlow


class TrainingNoise(NamedTuple):
    """The random numbers of a batch, drawn beforehand, so that the objective is a function of tensors alone.

    uniform: in [-0.5, 0.5), B C H W, for the dequantisation. normal: standard normals, B C H/s W/s, for the
    noise on h(x).
    """

    uniform: Tensor
    normal: Tensor


def draw_training_noise(
    model: DeFlow, shape: Sequence[int] | torch.Size, random: torch.Generator
) -> TrainingNoise:
    """Noise for a batch of images of a shape B C H W, on the generator's device."""
    batch, channels, height, width = shape
    factor, device = model.config.flow.downsample, random.device
    uniform = torch.rand((batch, channels, height, width), generator=random, device=device) - 0.5
    small = (batch, channels, height // factor, width // factor)
    return TrainingNoise(uniform, torch.randn(small, generator=random, device=device))


def part_of_noise(noise: TrainingNoise, part: range) -> TrainingNoise:
    """The noise of some places of either half of a batch, whose first half is clean."""
    half = len(noise.uniform) // 2
    if len(part) == half:
        return noise
    first, last = part.start, part.stop
    uniform, normal = (
        torch.cat((values[first:last], values[half + first : half + last])) for values in noise
    )
    return TrainingNoise(uniform, normal)


def flow_inputs(
    model: DeFlow, clean_bchw: Tensor, noisy_bchw: Tensor, noise: TrainingNoise
) -> tuple[Tensor, Tensor]:
    """Dequantised images and their noisy h(x), the clean ones first, both with the clean set's statistics.

    Images are float32 in [0, 1]. Training adds uniform noise of 1 / ``flow.quantization_levels`` to them, and
    Gaussian noise of std ``flow.h_noise`` to h.
    """
    flow = model.config.flow
    h = torch.cat((model.condition_image(clean_bchw), model.condition_image(noisy_bchw, DEGRADED)))
    x = torch.cat((clean_bchw, model.statistics.to_clean(noisy_bchw)))
    return x + noise.uniform / flow.quantization_levels, h + flow.h_noise * noise.normal


def unpaired_bits(
    model: DeFlow, x_bchw: Tensor, h_bchw: Tensor, clean_count: int, *, low_memory: bool = False
) -> Tensor:
    """Bits per dimension of each image under the prior of its domain (eq. 4): B.

    The first ``clean_count`` images are clean, the others degraded. low_memory: the nets are computed again
    in the backward pass; it needs gradients to be enabled.
    """
    latents, log_det = model.encode(x_bchw, h_bchw, low_memory=low_memory)
    log_prior = torch.cat(
        (
            model.prior.log_prob_clean([z[:clean_count] for z in latents]),
            model.prior.log_prob_degraded([z[clean_count:] for z in latents]),
        )
    )
    return model.nats_to_bits_per_dim(log_prior + log_det, x_bchw.shape)


def paired_bits(
    model: DeFlow,
    clean_bchw: Tensor,
    noisy_bchw: Tensor,
    noise: TrainingNoise,
    *,
    low_memory: bool = False,
) -> Tensor:
    """Bits per dimension of each degraded image given its clean one (eq. 5): B.

    Both are encoded with the clean image's h, because given x nothing may depend on y.
    """
    count = len(clean_bchw)
    x, h = flow_inputs(model, clean_bchw, noisy_bchw, noise)
    latents, log_det = model.encode(x, torch.cat((h[:count], h[:count])), low_memory=low_memory)
    log_prob = model.pair_log_prob(
        [z[:count] for z in latents], [z[count:] for z in latents], log_det[count:]
    )
    return model.nats_to_bits_per_dim(log_prob, x.shape)


@dataclass(frozen=True)
class Objective:
    """The loss of a batch of unpaired patches, and of pairs where there are some.

    pair_share: weight of the pairs' bits in the loss, 0 to 1. low_memory: as in :func:`unpaired_bits`.
    """

    model: DeFlow
    pair_share: float = 0.0
    low_memory: bool = False

    def __call__(
        self,
        clean_bchw: Tensor,
        noisy_bchw: Tensor,
        noise: TrainingNoise,
        pairs: tuple[Tensor, Tensor, TrainingNoise] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean bits per dimension, and the figures to log: ``clean``, ``noisy`` and ``pairs``.

        Images are float32 in [0, 1], BCHW; pairs: clean and degraded images of the same scenes, their noise.
        """
        count = len(clean_bchw)
        x, h = flow_inputs(self.model, clean_bchw, noisy_bchw, noise)
        bits = unpaired_bits(self.model, x, h, count, low_memory=self.low_memory)
        clean_bits, noisy_bits = bits[:count].mean(), bits[count:].mean()
        loss, figures = 0.5 * (clean_bits + noisy_bits), {"clean": clean_bits, "noisy": noisy_bits}
        if pairs is not None:
            pair_bits = paired_bits(self.model, *pairs, low_memory=self.low_memory).mean()
            loss = (1 - self.pair_share) * loss + self.pair_share * pair_bits
            figures["pairs"] = pair_bits
        return loss, figures
