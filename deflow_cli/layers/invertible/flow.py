"""The flow: an invertible map between images and latents, conditioned on the features of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from deflow_cli.config.model import FlowConfig
from deflow_cli.kernels.reference import ScaleForm
from deflow_cli.layers.invertible.actnorm import start_actnorms_from_next_batch
from deflow_cli.layers.invertible.base import Bijection, Condition, RunSettings
from deflow_cli.layers.invertible.coupling import FlowStep, TransitionStep
from deflow_cli.layers.invertible.split import Split
from deflow_cli.layers.invertible.squeeze import Squeeze
from deflow_cli.layers.invertible.variant import DEFLOW, FlowVariant
from deflow_cli.layers.networks.upsampled import LevelFeatures

EXPLAINED_STEP = 1  # the step of each level whose injector starts as a regression on the condition
WHITENED_STEP = 2  # the step of each level whose 1x1 convolution starts as a whitening

LayerCall = Callable[[Tensor], tuple[Tensor, Tensor]]


class ConditionalFlow(nn.Module):
    """Levels of bijections, each after a squeeze that halves the sides and makes four channels of one.

    levels: the layers of each level, finest first, without the squeezes; any :class:`Bijection` will do.
    Level l works on images of 1 / 2^l of the size and sees features of that size. Latents are ordered finest
    first: those that layers of the levels end (``latent_channels``), then what is left after the last level.
    """

    def __init__(self, in_channels: int, levels: Sequence[Sequence[Bijection]]) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.level_of_layer: list[int] = []
        self.latent_plan: list[tuple[int, int]] = []  # (channels, downsampling) per latent
        channels = in_channels
        for level, layers in enumerate(levels, start=1):
            channels *= 4
            self.layers.extend([Squeeze(), *layers])
            self.level_of_layer += [level] * (1 + len(layers))
            for layer in layers:
                if layer.latent_channels:
                    self.latent_plan.append((layer.latent_channels, 2**level))
                    channels -= layer.latent_channels
        self.latent_plan.append((channels, 2 ** len(levels)))

    @classmethod
    def from_config(
        cls,
        config: FlowConfig,
        condition_channels: int,
        generator: torch.Generator | None = None,
        variant: FlowVariant = DEFLOW,
    ) -> ConditionalFlow:
        """Levels of transition steps, flow steps and a split (DeFlow, CVPR 2021, section 3.3).

        ``splits: published`` splits after levels 1 .. L-2 alone, as the released models do; ``all`` after
        every level but the last; ``none`` never.
        """
        form = ScaleForm(config.scale, config.scale_eps, config.scale_bound)
        last_split = {"published": config.levels - 2, "all": config.levels - 1, "none": 0}[config.splits]
        levels: list[list[Bijection]] = []
        channels = config.in_channels
        for level in range(1, config.levels + 1):
            channels *= 4
            layers: list[Bijection] = [
                TransitionStep(channels, generator, variant) for _ in range(config.transition_steps)
            ]
            layers += [
                FlowStep(channels, condition_channels, config.hidden_channels, form, generator, variant)
                for _ in range(config.steps)
            ]
            if level <= last_split:
                split = Split(channels, variant.split_eps)
                layers.append(split)
                channels = split.kept_channels
            levels.append(layers)
        return cls(config.in_channels, levels)

    def bijections(self) -> list[Bijection]:
        """All layers in the order of encoding, the squeezes included."""
        return cast(list[Bijection], list(self.layers))

    def latent_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """(C, H, W) of each latent of an image."""
        return [(c, height // f, width // f) for c, f in self.latent_plan]

    def set_network_precision(self, dtype: torch.dtype | None) -> None:
        """Run the networks of all layers in ``dtype`` by autocast; None: in the parameters' type."""
        for layer in self.bijections():
            layer.set_network_precision(dtype)

    def prepare(self, features: Sequence[LevelFeatures] | None) -> list[Condition | None]:
        """What each layer needs of the features (finest level first); None for layers that need nothing."""
        return [layer.condition(seen) for layer, seen in self._with_features(features)]

    def encode(self, x_bchw: Tensor, conditions: Sequence[Condition | None]) -> tuple[list[Tensor], Tensor]:
        """Image to latents; returns (latents, log-det per sample)."""
        calls = [
            partial(layer, condition=condition)
            for layer, condition in zip(self.bijections(), conditions, strict=True)
        ]
        return self._encode(x_bchw, calls)

    def encode_recomputing(
        self, x_bchw: Tensor, features: Sequence[LevelFeatures] | None
    ) -> tuple[list[Tensor], Tensor]:
        """``encode`` for training with less memory: layers with networks run again in the backward pass.

        Of those layers only the input z and the features are kept, so their conditions are computed here.
        """
        recompute = RunSettings(recompute=True)
        calls = [
            partial(Bijection.encode_run, [layer], features=seen, settings=recompute)
            for layer, seen in self._with_features(features)
        ]
        return self._encode(x_bchw, calls)

    def encode_runs(
        self, x_bchw: Tensor, features: Sequence[LevelFeatures] | None, settings: RunSettings
    ) -> tuple[list[Tensor], Tensor]:
        """``encode`` for training on a GPU: layers of a level that can share work do (``encode_run``)."""
        z, log_det = x_bchw, x_bchw.new_zeros(x_bchw.shape[0])
        latents: list[Tensor] = []
        for run, seen in self._runs(features):
            z, part = run[0].encode_run(run, z, seen, settings)
            log_det = log_det + part
            if run[-1].latent_channels:
                z, latent = run[-1].parted(z)
                latents.append(latent)
        return [*latents, z], log_det

    def decode(
        self, latents: Sequence[Tensor], conditions: Sequence[Condition | None]
    ) -> tuple[Tensor, Tensor]:
        """Latents to image; returns (image, log-det per sample of the decoding)."""
        *ended, z = latents
        log_det = z.new_zeros(z.shape[0])
        for layer, condition in zip(reversed(self.bijections()), reversed(conditions), strict=True):
            if layer.latent_channels:
                z = torch.cat((z, ended.pop()), dim=1)
            z, part = layer.inverse(z, condition)
            log_det = log_det + part
        return z, log_det

    @torch.no_grad()
    def start(
        self,
        x_bchw: Tensor,
        features: Sequence[LevelFeatures] | None,
        *,
        whiten: bool,
        scale: bool = False,
    ) -> None:
        """Start every ActNorm from data and, with ``whiten``, the linear part of the flow by regression.

        With ``whiten`` the first injector of each level subtracts from z its ridge regression on the
        injector's hidden features of the conditioning image, and the 1x1 convolution of the level's second
        step whitens the residual: the latents begin as decorrelated detail that the condition does not
        explain, of unit variance. Levels of one step are not whitened. The couplings start at the identity:
        started by regression too, they amplified noise. It needs the variant whose injectors come last.

        scale: both these injectors also divide by the strength of detail that the condition explains, by a
        regression of its logarithm. It needs bounded scales.

        The start is computed in the parameters' type, whatever precision the networks are set to.
        """
        start_actnorms_from_next_batch(self)
        if not whiten:
            self.encode(x_bchw, self.prepare(features))
            return
        z, level_before, step = x_bchw, 0, 0
        for (layer, seen), level in zip(self._with_features(features), self.level_of_layer, strict=True):
            if level != level_before:
                level_before, step = level, 0
            step += layer.has_networks
            encoded = layer.start(
                z,
                seen,
                whiten=layer.has_networks and step == WHITENED_STEP,
                explain=layer.has_networks and step in ((EXPLAINED_STEP, WHITENED_STEP)[: 1 + scale]),
                scale=scale,
            )
            z, _ = layer.parted(encoded)

    def _encode(self, x_bchw: Tensor, calls: Sequence[LayerCall]) -> tuple[list[Tensor], Tensor]:
        z, log_det = x_bchw, x_bchw.new_zeros(x_bchw.shape[0])
        latents: list[Tensor] = []
        for layer, call in zip(self.bijections(), calls, strict=True):
            z, part = call(z)
            log_det = log_det + part
            if layer.latent_channels:
                z, latent = layer.parted(z)
                latents.append(latent)
        return [*latents, z], log_det

    def _runs(
        self, features: Sequence[LevelFeatures] | None
    ) -> list[tuple[list[Bijection], LevelFeatures | None]]:
        """Layers that follow one another at one level and share their ``encode_run``, with what they see.

        A layer that ends in a latent ends its run.
        """
        runs: list[tuple[list[Bijection], LevelFeatures | None]] = []
        before: object = None
        for layer, seen, level in zip(
            self.bijections(),
            (seen for _, seen in self._with_features(features)),
            self.level_of_layer,
            strict=True,
        ):
            key = (level, _owner_of_encode_run(layer))
            if key == before:
                runs[-1][0].append(layer)
            else:
                runs.append(([layer], seen))
            before = None if layer.latent_channels else key
        return runs

    def _with_features(
        self, features: Sequence[LevelFeatures] | None
    ) -> list[tuple[Bijection, LevelFeatures | None]]:
        return [
            (layer, features[level - 1] if features else None)
            for layer, level in zip(self.bijections(), self.level_of_layer, strict=True)
        ]


def _owner_of_encode_run(layer: Bijection) -> type:
    """The class that says how a run with this layer is encoded."""
    return next(kind for kind in type(layer).__mro__ if "encode_run" in vars(kind))
