"""Bijection: what every layer of the flow is."""

from __future__ import annotations

from torch import Tensor, nn


class Bijection(nn.Module):
    """An invertible map of images with a tractable Jacobian.

    ``forward`` encodes (image to latent), ``inverse`` decodes. Each returns the mapped tensor (BCHW) and
    the log-determinant of its own Jacobian per sample (B). Layers conditioned on the image h(x) take the
    prepared condition as a second argument.
    """

    def forward(self, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def inverse(self, z_bchw: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError
