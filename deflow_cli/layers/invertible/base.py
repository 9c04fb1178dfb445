"""Bijection: the contract that every layer of a flow meets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from deflow_cli.layers.networks.recompute import computed_anew
from deflow_cli.layers.networks.upsampled import LevelFeatures

Condition = tuple[Tensor, ...]
"""What one layer computes from the features of the conditioning image, independent of z."""


class RunSettings(NamedTuple):
    """How runs of layers are encoded in training.

    recompute: keep of every layer with networks only its input z, and compute the rest again in the backward
    pass. compiled: use functions compiled by ``torch.compile``.
    """

    recompute: bool = False
    compiled: bool = False


class Bijection(nn.Module):
    """An invertible map of images with a tractable Jacobian.

    ``forward`` encodes (image to latent) and ``inverse`` decodes. Each returns the mapped tensor (BCHW) and
    the log-determinant of its own Jacobian per sample (B). A subclass implements these two methods, and
    overrides what follows only where it needs it:

    - A layer that depends on the conditioning image computes what it needs of the features in ``condition``,
      once per image; both directions receive the result.
    - A layer that ends the path of some channels sets ``latent_channels``: that many last channels of its
      output are a latent of the flow, and the others go on to the next layer.
    - A layer whose networks keep large activations for the backward pass sets ``has_networks``: training
      with low memory then computes the layer again there.
    - A layer that shares work with its neighbours of one level overrides ``encode_run``.

    >>> class Doubling(Bijection):
    ...     def forward(self, x_bchw, condition=None):
    ...         return 2 * x_bchw, x_bchw.new_full(x_bchw.shape[:1], x_bchw[0].numel() * math.log(2))
    ...
    ...     def inverse(self, z_bchw, condition=None):
    ...         return z_bchw / 2, z_bchw.new_full(z_bchw.shape[:1], -z_bchw[0].numel() * math.log(2))
    >>> import math
    >>> z, log_det = Doubling()(torch.ones(1, 3, 4, 4))
    >>> z.unique().item(), round(log_det.item() / math.log(2))
    (2.0, 48)
    """

    latent_channels = 0
    has_networks = False

    def forward(self, x_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """Encode; log-det per sample."""
        raise NotImplementedError

    def inverse(self, z_bchw: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """Decode what ``forward`` gave, its latent channels included; log-det per sample."""
        raise NotImplementedError

    def condition(self, features: LevelFeatures | None) -> Condition | None:
        """What the layer needs of its level's features; None if nothing, or in an unconditional flow."""
        return None

    @classmethod
    def encode_run(
        cls,
        run: Sequence[Bijection],
        x_bchw: Tensor,
        features: LevelFeatures | None,
        settings: RunSettings,
    ) -> tuple[Tensor, Tensor]:
        """Encode by layers that follow one another at one level and all have this ``encode_run``."""
        log_det = x_bchw.new_zeros(x_bchw.shape[0])
        for layer in run:
            recompute = settings.recompute and layer.has_networks
            x_bchw, part = (
                computed_anew(_condition_and_encode, layer, features, x_bchw)
                if recompute
                else _condition_and_encode(layer, features, x_bchw)
            )
            log_det = log_det + part
        return x_bchw, log_det

    def parted(self, z_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """An encoded tensor as (channels that go on, latent channels)."""
        going_on = z_bchw.shape[1] - self.latent_channels
        return z_bchw[:, :going_on], z_bchw[:, going_on:]

    def start(
        self,
        x_bchw: Tensor,
        features: LevelFeatures | None,
        *,
        whiten: bool,
        explain: bool,
        scale: bool = False,
    ) -> Tensor:
        """Encode the first batch, and initialise parameters in closed form from it where that is asked for.

        whiten: initialise the layer's linear map so that its output is decorrelated. explain: initialise the
        layer's networks so that what the features explain of the output is subtracted, and with scale that
        the rest is divided by its explained strength. Layers that can do none of it just encode.
        """
        return self(x_bchw, self.condition(features))[0]

    def set_network_precision(self, dtype: torch.dtype | None) -> None:
        """Run the layer's networks in ``dtype`` by autocast; None: in the parameters' type."""


def _condition_and_encode(
    layer: Bijection, features: LevelFeatures | None, z_bchw: Tensor
) -> tuple[Tensor, Tensor]:
    encoded: tuple[Tensor, Tensor] = layer(z_bchw, layer.condition(features))
    return encoded


def times_positions(log_det: Tensor, x_bchw: Tensor) -> Tensor:
    """Log-det per sample (B) of a map that acts alike at each position, from that of one position."""
    batch, _, height, width = x_bchw.shape
    return (log_det * (height * width)).expand(batch)
