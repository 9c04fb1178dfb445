"""Objective: the negative log-likelihood that SRFlow is trained on, in bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from deflow_cli.models.srflow.model import SRFlow, log_standard_normal

GREY_LEVELS = 255.0
EIGHT_BIT_STEP = 1 / 256  # of the uniform noise beside the Gaussian one of a drawn strength


class DequantisationNoise(NamedTuple):
    """The random numbers of a batch, drawn beforehand, so that the objective is a function of tensors alone.

    uniform: in [-0.5, 0.5), normal: standard normals, both B C H W of y. strength: in [0, 1), B.
    """

    uniform: Tensor
    normal: Tensor
    strength: Tensor


def draw_dequantisation(shape: Sequence[int] | torch.Size, random: torch.Generator) -> DequantisationNoise:
    """Noise for a batch of images y of a shape B C H W, on the generator's device."""
    size, device = tuple(shape), random.device
    return DequantisationNoise(
        torch.rand(size, generator=random, device=device) - 0.5,
        torch.randn(size, generator=random, device=device),
        torch.rand(size[:1], generator=random, device=device),
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
    """The loss of a batch: bits per dimension of y given x, and with ``l1`` the error at temperature 0.

    l1: weight of the mean absolute difference of y and f^-1(0; x). low_memory: networks are computed anew in
    the backward pass.
    """

    model: SRFlow
    l1: float = 0.0
    low_memory: bool = False

    def __call__(
        self, y_bchw: Tensor, x_bchw: Tensor, noise: DequantisationNoise
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the figures to log: ``bits``, and ``l1`` where it counts."""
        noisy, strength = dequantised(self.model, y_bchw, noise)
        latents, log_det = self.model.encode_for_training(noisy, x_bchw, strength, low_memory=self.low_memory)
        log_prob = log_standard_normal(latents) + log_det
        bits = self.model.bits_per_dim(log_prob, math.prod(y_bchw.shape[1:])).mean()
        if not self.l1:
            return bits, {"bits": bits}
        zeros = [torch.zeros_like(z) for z in latents]
        mild = self.model.decode(zeros, x_bchw, self.model.prepare(x_bchw))
        error = (mild - y_bchw).abs().mean()
        return bits + self.l1 * error, {"bits": bits, "l1": error}
