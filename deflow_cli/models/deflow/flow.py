"""The flow: an invertible map between images and latents, conditioned on the features of h(x)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deflow_cli.config.model import FlowConfig
from deflow_cli.kernels.forms import ScaleForm
from deflow_cli.layers.invertible.coupling import FlowStep, StepCondition, TransitionStep
from deflow_cli.layers.invertible.split import Split
from deflow_cli.layers.invertible.squeeze import Squeeze
from deflow_cli.layers.networks.recompute import computed_anew
from deflow_cli.layers.networks.upsampled import LevelFeatures


class ConditionalFlow(nn.Module):
    """Levels of squeeze, transition steps, flow steps and a split (DeFlow, CVPR 2021, section 3.3).

    Latents are ordered finest first. ``splits: published`` splits after levels 1 .. L-2 alone, as the
    released models do; ``all`` after every level but the last; ``none`` never.
    """

    def __init__(
        self, config: FlowConfig, condition_channels: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.config = config
        form = ScaleForm(config.scale, config.scale_eps, config.scale_bound)
        last_split = {"published": config.levels - 2, "all": config.levels - 1, "none": 0}[config.splits]
        self.layers = nn.ModuleList()
        self.level_of_layer: list[int] = []
        self.latent_plan: list[tuple[int, int]] = []  # (channels, downsampling) per latent
        channels = config.in_channels
        for level in range(1, config.levels + 1):
            channels *= 4
            stack: list[nn.Module] = [Squeeze()]
            stack += [TransitionStep(channels, generator) for _ in range(config.transition_steps)]
            stack += [
                FlowStep(channels, condition_channels, config.hidden_channels, form, generator)
                for _ in range(config.steps)
            ]
            if level <= last_split:
                split = Split(channels)
                stack.append(split)
                self.latent_plan.append((split.latent_channels, 2**level))
                channels = split.kept_channels
            self.layers.extend(stack)
            self.level_of_layer += [level] * len(stack)
        self.latent_plan.append((channels, 2**config.levels))

    def latent_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """(C, H, W) of each latent of an image."""
        return [(c, height // f, width // f) for c, f in self.latent_plan]

    def prepare(self, features: Sequence[LevelFeatures] | None) -> list[StepCondition | None]:
        """What each layer needs of the features (finest level first); None for layers that need nothing."""
        return [
            layer.condition(features[level - 1]) if features and isinstance(layer, FlowStep) else None
            for layer, level in zip(self.layers, self.level_of_layer, strict=True)
        ]

    def encode(
        self, x_bchw: Tensor, conditions: Sequence[StepCondition | None]
    ) -> tuple[list[Tensor], Tensor]:
        """Image to latents; returns (latents, log-det per sample)."""
        z, log_det = x_bchw, x_bchw.new_zeros(x_bchw.shape[0])
        latents: list[Tensor] = []
        for layer, condition in zip(self.layers, conditions, strict=True):
            if isinstance(layer, Split):
                z, latent, part = layer(z)
                latents.append(latent)
            elif isinstance(layer, FlowStep):
                z, part = layer(z, condition)
            else:
                z, part = layer(z)
            log_det = log_det + part
        return [*latents, z], log_det

    def encode_recomputing(
        self, x_bchw: Tensor, features: Sequence[LevelFeatures] | None
    ) -> tuple[list[Tensor], Tensor]:
        """``encode`` that keeps z between the steps for the backward pass, and runs the nets there again."""

        def run(layer: FlowStep, z: Tensor, seen: LevelFeatures | None) -> tuple[Tensor, Tensor]:
            return layer(z, None if seen is None else layer.condition(seen))

        z, log_det = x_bchw, x_bchw.new_zeros(x_bchw.shape[0])
        latents: list[Tensor] = []
        for layer, level in zip(self.layers, self.level_of_layer, strict=True):
            if isinstance(layer, Split):
                z, latent, part = layer(z)
                latents.append(latent)
            elif isinstance(layer, FlowStep):
                z, part = computed_anew(run, layer, z, features[level - 1] if features else None)
            else:
                z, part = layer(z)
            log_det = log_det + part
        return [*latents, z], log_det

    def decode(
        self, latents: Sequence[Tensor], conditions: Sequence[StepCondition | None]
    ) -> tuple[Tensor, Tensor]:
        """Latents to image; returns (image, log-det per sample of the decoding)."""
        *split_latents, z = latents
        log_det = z.new_zeros(z.shape[0])
        for layer, condition in zip(reversed(self.layers), reversed(conditions), strict=True):
            if isinstance(layer, Split):
                z, part = layer.inverse(z, split_latents.pop())
            elif isinstance(layer, FlowStep):
                z, part = layer.inverse(z, condition)
            else:
                assert isinstance(layer, Squeeze | TransitionStep)
                z, part = layer.inverse(z)
            log_det = log_det + part
        return z, log_det
