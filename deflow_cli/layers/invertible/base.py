"""Bijection: the contract of every layer of a flow."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from deflow_cli.layers.networks.upsampled import LevelFeatures


class StepCondition(NamedTuple):
    """What a layer needs of the conditioning image: independent of z, so it is computed once per image.

    injector: the injector's shift (even channels) and raw scale (odd channels). coupling_term: the share of
    the coupling net's first convolution that comes from the features.
    """

    injector: Tensor
    coupling_term: Tensor


class LayerOutput(NamedTuple):
    """What encoding by one layer gives: the tensor for the next layer, the log-det per sample (B), and the
    latent that the layer factors out, if it does (see ``Split``)."""

    z: Tensor
    log_det: Tensor
    latent: Tensor | None = None


class Bijection(nn.Module):
    """An invertible map of images with a tractable Jacobian determinant.

    ``forward`` encodes (from image to latent), ``inverse`` decodes. Each returns the mapped tensor (B C H W)
    and the log-determinant of its Jacobian per sample (B). ``condition`` is what the layer computed of the
    conditioning features beforehand (:meth:`condition`); layers that ignore the features take None.

    A flow calls ``encode`` and ``decode``, which also pass on the latent of a layer that factors one out.
    A new layer writes ``forward`` and ``inverse``, and no flow has to know it:

    >>> import torch
    >>> class Shift(Bijection):
    ...     def forward(self, x_bchw, condition=None):
    ...         return x_bchw + 1, x_bchw.new_zeros(len(x_bchw))
    ...     def inverse(self, z_bchw, condition=None):
    ...         return z_bchw - 1, z_bchw.new_zeros(len(z_bchw))
    >>> x = torch.zeros(2, 3, 4, 4)
    >>> z, log_det, latent = Shift().encode(x)
    >>> torch.equal(Shift().decode(z)[0], x)
    True
    """

    factors_out: ClassVar[bool] = False
    """Whether encoding gives a latent, which decoding needs again."""
    has_networks: ClassVar[bool] = False
    """Whether the layer runs networks whose activations are worth recomputing in the backward pass."""

    def forward(self, x_bchw: Tensor, condition: StepCondition | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def inverse(self, z_bchw: Tensor, condition: StepCondition | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def condition(self, features: LevelFeatures) -> StepCondition | None:
        """All that this layer computes of its level's features alone; None where it ignores them."""
        return None

    def encode(self, x_bchw: Tensor, condition: StepCondition | None = None) -> LayerOutput:
        """``forward``, with the latent that the layer factors out."""
        return LayerOutput(*self(x_bchw, condition))

    def decode(
        self, z_bchw: Tensor, condition: StepCondition | None = None, latent: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Undo ``encode``, given the latent that was factored out; returns (x, log-det per sample)."""
        return self.inverse(z_bchw, condition)

    def encode_from_features(self, x_bchw: Tensor, features: LevelFeatures | None) -> LayerOutput:
        """``encode`` that computes the condition itself, so that it can be recomputed as a whole."""
        return self.encode(x_bchw, None if features is None else self.condition(features))
