"""Losses of the translation networks, all scalars: means over all elements."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-8  # added to probabilities before their logarithm


def log_generator_loss(fake_probabilities: Tensor) -> Tensor:
    """Of the generator: mean -log(D(G(x)) + 1e-8) (DSGAN, DASR)."""
    return -torch.log(fake_probabilities + EPS).mean()


def log_discriminator_loss(real_probabilities: Tensor, fake_probabilities: Tensor) -> Tensor:
    """Of the discriminator: mean -log(D(y) + 1e-8) + mean -log(1 - D(G(x)) + 1e-8), not halved."""
    real = -torch.log(real_probabilities + EPS).mean()
    return real - torch.log(1 - fake_probabilities + EPS).mean()


def squares_generator_loss(fake_values: Tensor) -> Tensor:
    """The generator's part of the least-squares GAN (ICCV 2017): mean (D(G(x)) - 1)^2."""
    return ((fake_values - 1) ** 2).mean()


def squares_discriminator_loss(real_values: Tensor, fake_values: Tensor) -> Tensor:
    """The discriminator's part: 1/2 [mean (D(y) - 1)^2 + mean D(G(x))^2]."""
    return 0.5 * (((real_values - 1) ** 2).mean() + (fake_values**2).mean())


def colour_loss(coarse_bchw: Tensor, clean_coarse_bchw: Tensor) -> Tensor:
    """Mean absolute difference of the coarse parts of a degraded picture and of its clean one."""
    return F.l1_loss(coarse_bchw, clean_coarse_bchw)


def cycle_loss(back_bchw: Tensor, images_bchw: Tensor) -> Tensor:
    """Mean absolute difference of pictures and what came back of them, on CycleGAN's scale of [-1, 1].

    The same scale counts for the identity loss. images: in [0, 1].
    """
    return 2 * F.l1_loss(back_bchw, images_bchw)


def eight_bits(images_bchw: Tensor) -> Tensor:
    """Pictures in [0, 1] as a file of 8 bits keeps them."""
    return (images_bchw * 255).round().clamp(0, 255) / 255
