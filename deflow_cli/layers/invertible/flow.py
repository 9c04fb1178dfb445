"""The flow: an invertible map between images and latents, conditioned on features of another image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from deflow_cli.config.model import FlowConfig
from deflow_cli.kernels.reference import ScaleForm
from deflow_cli.layers.invertible.base import Bijection, LayerOutput, StepCondition
from deflow_cli.layers.invertible.coupling import FlowForm, FlowStep, TransitionStep
from deflow_cli.layers.invertible.split import Split
from deflow_cli.layers.invertible.squeeze import Squeeze
from deflow_cli.layers.networks.recompute import computed_anew
from deflow_cli.layers.networks.upsampled import LevelFeatures

Conditions = Sequence[StepCondition | None]
StepFactory = Callable[[int], Bijection]
"""Makes a flow step for a number of channels."""


class ConditionalFlow(nn.Module):
    """Levels of squeeze, transition steps, flow steps and a split (DeFlow, CVPR 2021, section 3.3).

    Latents are ordered finest first. ``splits: published`` splits after levels 1 .. L-2 alone, as the
    released models do; ``all`` after every level but the last; ``none`` never.

    form: the variant of the layers; None: DeFlow's, with the configuration's scale. new_step: makes the steps
    of a level from their channels; None: ``FlowStep``.

    >>> flow = ConditionalFlow(FlowConfig(levels=2, steps=1, hidden_channels=8, splits="all"), 0)
    >>> latents, log_det = flow.encode(torch.rand(2, 3, 8, 8), flow.prepare(None))
    >>> [tuple(z.shape) for z in latents], tuple(log_det.shape)
    ([(2, 6, 4, 4), (2, 24, 2, 2)], (2,))
    """

    def __init__(
        self,
        config: FlowConfig,
        condition_channels: int,
        generator: torch.Generator | None = None,
        *,
        form: FlowForm | None = None,
        new_step: StepFactory | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.form = form or FlowForm(ScaleForm(config.scale, config.scale_eps, config.scale_bound))

        def flow_step(channels: int) -> Bijection:
            return FlowStep(channels, condition_channels, config.hidden_channels, self.form, generator)

        new_step = new_step or flow_step
        last_split = {"published": config.levels - 2, "all": config.levels - 1, "none": 0}[config.splits]
        self.layers = nn.ModuleList()
        self.level_of_layer: list[int] = []
        self.step_layers: dict[int, list[int]] = {}  # level: places of its flow steps
        self.split_layers: list[int] = []
        self.latent_plan: list[tuple[int, int]] = []  # (channels, downsampling) per latent
        channels = config.in_channels
        for level in range(1, config.levels + 1):
            channels *= 4
            stack: list[Bijection] = [Squeeze()]
            stack += [TransitionStep(channels, generator, self.form) for _ in range(config.transition_steps)]
            first = len(self.layers) + len(stack)
            self.step_layers[level] = list(range(first, first + config.steps))
            stack += [new_step(channels) for _ in range(config.steps)]
            if level <= last_split:
                split = Split(channels, self.form.split_eps)
                self.split_layers.append(len(self.layers) + len(stack))
                stack.append(split)
                self.latent_plan.append((split.latent_channels, 2**level))
                channels = split.kept_channels
            self.layers.extend(stack)
            self.level_of_layer += [level] * len(stack)
        self.latent_plan.append((channels, 2**config.levels))

    def bijections(self) -> list[Bijection]:
        """The layers, in the order of encoding."""
        return cast("list[Bijection]", list(self.layers))

    def latent_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """(C, H, W) of each latent of an image."""
        return [(c, height // f, width // f) for c, f in self.latent_plan]

    def prepare(self, features: Sequence[LevelFeatures] | None) -> list[StepCondition | None]:
        """What each layer computes of the features alone (finest level first), or None."""
        if not features:
            return [None] * len(self.layers)
        return [
            layer.condition(features[level - 1])
            for layer, level in zip(self.bijections(), self.level_of_layer, strict=True)
        ]

    def encode(self, x_bchw: Tensor, conditions: Conditions) -> tuple[list[Tensor], Tensor]:
        """Image to latents; returns (latents, log-det per sample)."""
        layers = zip(self.bijections(), conditions, strict=True)
        return _encode(x_bchw, (partial(layer.encode, condition=condition) for layer, condition in layers))

    def encode_recomputing(
        self, x_bchw: Tensor, features: Sequence[LevelFeatures] | None
    ) -> tuple[list[Tensor], Tensor]:
        """``encode`` for training in little memory: networks are recomputed in the backward pass.

        Of the activations only z between the layers is stored for it.
        """

        def run(layer: Bijection, seen: LevelFeatures | None, z: Tensor) -> LayerOutput:
            if not layer.has_networks:
                return layer.encode_from_features(z, seen)
            return computed_anew(layer.encode_from_features, z, seen)

        levels = zip(self.bijections(), self.level_of_layer, strict=True)
        return _encode(
            x_bchw,
            (partial(run, layer, features[level - 1] if features else None) for layer, level in levels),
        )

    def decode(self, latents: Sequence[Tensor], conditions: Conditions) -> tuple[Tensor, Tensor]:
        """Latents to image; returns (image, log-det per sample of the decoding)."""
        *factored_out, z = latents
        log_det = z.new_zeros(z.shape[0])
        for layer, condition in zip(reversed(self.bijections()), reversed(conditions), strict=True):
            latent = factored_out.pop() if layer.factors_out else None
            z, part = layer.decode(z, condition, latent)
            log_det = log_det + part
        return z, log_det


def _encode(x_bchw: Tensor, layers: Iterable[Callable[[Tensor], LayerOutput]]) -> tuple[list[Tensor], Tensor]:
    """Through the layers in order: (latents that are factored out and the last one, log-det per sample)."""
    z, log_det = x_bchw, x_bchw.new_zeros(x_bchw.shape[0])
    latents: list[Tensor] = []
    for encode in layers:
        z, part, latent = encode(z)
        log_det = log_det + part
        if latent is not None:
            latents.append(latent)
    return [*latents, z], log_det
