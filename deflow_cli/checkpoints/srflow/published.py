"""Published SRFlow files: recognised, loaded strictly, and written again."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from deflow_cli.checkpoints.architectures import (
    Loaded,
    SuperResolverArchitecture,
    check_least_parameters,
    misfits,
)
from deflow_cli.checkpoints.foreign import (
    FLOW_PREFIX,
    PublishedSizes,
    published_layer_name,
    published_sizes,
    unused_beside,
)
from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.checkpoints.srflow.files import SRFLOW_ARCHITECTURE
from deflow_cli.config.srflow import SRFlowConfig, SRFlowModelConfig
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.models.srflow.model import SRFlow

PUBLISHED_EPS = 1e-4
# (blocks of the encoder, scale) -> which of them the authors stack; the files do not tell
PUBLISHED_STACKS = {(23, 4): (1, 8, 15, 22), (23, 8): (1, 3, 5, 7), (8, 8): (1, 3, 5, 7)}
# Sizes, and what changes no tensor: fields of SRFlowConfig that may differ from the published models'.
FREE = {
    *("scale", "levels", "steps", "transition_steps", "hidden_channels", "splits", "image_channels"),
    *("affine_eps", "affine_bound", "noise", "noise_levels", "noise_std"),
}
AUTHORS_SIZES = (64, 320)  # hidden channels and features that the authors' program builds


class PublishedSRFlow(SuperResolverArchitecture):
    """SRFlow (ECCV 2020) with the names that its authors publish."""

    name = SRFLOW_ARCHITECTURE
    formats = ("srflow",)

    def detects(self, state: Mapping[str, Tensor]) -> bool:
        # DeFlow's names have the same prefix; its 1x1 convolutions are stored as factors
        return any(key.startswith(FLOW_PREFIX) and key.endswith(".invconv.weight") for key in state)

    def load(
        self,
        state: Mapping[str, Tensor],
        stacked_blocks: Sequence[int] | None = None,
        affine_eps: float | None = None,
    ) -> Loaded[SRFlow]:
        return load_published_srflow(state, stacked_blocks, affine_eps)

    def export(
        self, model: SRFlow, path: Path, file_format: str, spare: Mapping[str, Tensor] | None = None
    ) -> list[str]:
        return export_srflow(model, path, spare or {})


def published_srflow_names(model: SRFlow) -> dict[str, str]:
    """Our state-dict keys -> the published ones, in the published order.

    Raises CheckpointError for a model that the published layout cannot hold.
    """
    config = model.config.srflow
    published = SRFlowConfig()
    for choice in dataclasses.fields(config):
        value = getattr(config, choice.name)
        if choice.name not in FREE and value != getattr(published, choice.name):
            raise CheckpointError(
                f"the published layout cannot hold srflow.{choice.name} = {value!r}",
                next_step="export it as .safetensors",
            )
    if config.is_told_strength:
        raise CheckpointError(
            "the published layout cannot hold a model that is told the strength of the noise",
            next_step="export it as .safetensors",
        )
    names = {key: published_layer_name(key) for key in model.state_dict()}
    order: dict[str, tuple[int, int]] = {}
    first_of_net: dict[str, int] = {}
    for index, (key, name) in enumerate(names.items()):
        assert name is not None, key
        # ours lists a net's weights before its norms, the authors' layer by layer
        net = re.match(r"(.+\.(?:fAffine|fFeatures))\.(\d)\.", name)
        place = first_of_net.setdefault(net[1], index) if net else index
        order[key] = (place, int(net[2]) if net else 0)
    return {key: str(names[key]) for key in sorted(order, key=lambda key: order[key])}


def published_srflow_layout(model: SRFlow) -> dict[str, tuple[int, ...]]:
    """Every key and shape of the published state dict for this model's sizes, in its order.

    The tensors that no computation reads are among them.
    """
    ours = model.state_dict()
    used = {theirs: tuple(ours[key].shape) for key, theirs in published_srflow_names(model).items()}
    unused = unused_beside(model.encoder, model.config.srflow.image_channels)
    restorer = {name: shape for name, shape in unused.items() if name.startswith("RRDB.")}
    encoder = {name: shape for name, shape in used.items() if name.startswith("RRDB.")}
    return encoder | restorer | used | unused


def load_published_srflow(
    state: Mapping[str, Tensor],
    stacked_blocks: Sequence[int] | None = None,
    affine_eps: float | None = None,
) -> Loaded[SRFlow]:
    """A model from a published state dict, loaded strictly; what the file does not tell is given or assumed.

    stacked_blocks: None: as the authors do for this number of blocks and scale. affine_eps: None: 1e-4.
    Raises CheckpointError listing missing, unexpected or misshapen tensors, and where the sizes cannot be
    told; ConfigError where the arguments cannot be those of the file.
    """
    config = detect_published_srflow(state, stacked_blocks, affine_eps)
    check_least_parameters(state, config.least_parameters)
    model = SRFlow(config)
    layout: dict[str, tuple[int, ...] | None] = dict(published_srflow_layout(model))
    unused = unused_beside(model.encoder, model.config.srflow.image_channels)
    layout |= {name: None for name in unused if name.startswith("flowUpsamplerNet.f.")}  # of any width
    if problems := misfits(state, layout, optional=unused):
        raise CheckpointError(f"state dict does not fit the model: {problems}")
    model.load_state_dict(
        {key: state[name] for key, name in published_srflow_names(model).items()}, strict=True
    )
    assumed = ["training without noise on the images"]
    if affine_eps is None:
        assumed.insert(0, f"scales of at least {PUBLISHED_EPS:g}")
    if stacked_blocks is None:
        assumed.insert(0, f"stacked blocks {', '.join(map(str, model.config.encoder.stacked_blocks))}")
    return Loaded(model.eval(), "published", sorted(set(state) & set(unused)), assumed)


def detect_published_srflow(
    state: Mapping[str, Tensor],
    stacked_blocks: Sequence[int] | None = None,
    affine_eps: float | None = None,
) -> SRFlowModelConfig:
    """Sizes of a published SRFlow state dict, from its keys and shapes.

    Raises CheckpointError when a telling key is missing or has no such shape, ConfigError for arguments that
    do not fit.
    """
    try:
        sizes = published_sizes(state, "invconv.weight")
        config = SRFlowConfig(
            scale=sizes.downsample,
            levels=sizes.levels,
            steps=sizes.steps,
            transition_steps=sizes.transition_steps,
            hidden_channels=sizes.hidden_channels,
            splits=sizes.splits,
            noise="none",
            image_channels=sizes.image_channels,
        )
    except KeyError as error:
        raise CheckpointError(f"not a published SRFlow state dict: {error} is missing") from error
    except (ValueError, IndexError, ZeroDivisionError, ConfigError) as error:
        raise CheckpointError(
            f"not a published SRFlow state dict: its names and shapes tell no sizes ({error})"
        ) from error
    eps = PUBLISHED_EPS if affine_eps is None else affine_eps
    encoder = sizes.encoder(_stack(sizes, stacked_blocks))
    return SRFlowModelConfig(dataclasses.replace(config, affine_eps=eps), encoder)


def _stack(sizes: PublishedSizes, given: Sequence[int] | None) -> tuple[int, ...]:
    """Which of the encoder's blocks are stacked: those given, or by the authors' table, or all."""
    if given is not None:
        if len(given) != sizes.stacked:
            raise ConfigError(
                f"{len(given)} stacked blocks are given, the file's flow sees {sizes.stacked}",
                next_step=f"name {sizes.stacked} of the blocks 0 to {sizes.blocks - 1}",
            )
        return tuple(given)
    if sizes.stacked == 4 and (sizes.blocks, sizes.downsample) in PUBLISHED_STACKS:
        return PUBLISHED_STACKS[sizes.blocks, sizes.downsample]
    if sizes.blocks == sizes.stacked:
        return tuple(range(sizes.blocks))
    raise CheckpointError(
        f"the file has {sizes.blocks} encoder blocks of which {sizes.stacked} are stacked; which ones is not "
        "recorded",
        next_step="name them: deflow import-weights FILE OUT --blocks 1,3,5,7",
    )


def export_srflow(model: SRFlow, path: Path, spare: Mapping[str, Tensor]) -> list[str]:
    """Write the authors' layout as a .pth file, atomically; what their program cannot do with it, in words.

    spare: the tensors that no computation reads, by their published names; those that lack are written as
    zeros. Raises ConfigError for another suffix, CheckpointError for a model that the layout cannot hold.
    """
    if path.suffix != ".pth":
        raise ConfigError(f"{path}: the authors' program reads .pth files", next_step=f"use {path.stem}.pth")
    ours = {theirs: model.state_dict()[key] for key, theirs in published_srflow_names(model).items()}
    layout = published_srflow_layout(model)
    zeros = {name: torch.zeros(shape) for name, shape in layout.items() if name not in ours}
    tensors = zeros | dict(spare) | ours
    # clones: the file must not carry more than the tensors, whatever storage they share
    state = {name: tensors[name].detach().cpu().float().contiguous().clone() for name in layout}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())
    return _caveats(model.config, len(set(zeros) - set(spare)))


def _caveats(config: SRFlowModelConfig, zeros: int) -> list[str]:
    """What the authors' program must be told, or cannot take."""
    found = []
    stacked, sizes = config.encoder.stacked_blocks, (config.encoder.blocks, config.scale)
    if stacked != PUBLISHED_STACKS.get(sizes):
        blocks = ", ".join(map(str, stacked))
        found.append(
            f"the file does not tell that the blocks {blocks} are stacked: name them in its configuration"
        )
    if config.srflow.affine_eps != PUBLISHED_EPS:
        found.append(f"the file does not tell that scales are at least {config.srflow.affine_eps:g}")
    built = (config.srflow.hidden_channels, config.encoder.feature_channels)
    if built != AUTHORS_SIZES:
        found.append(
            f"the authors' program builds {AUTHORS_SIZES[0]} hidden channels and {AUTHORS_SIZES[1]} "
            f"features; this model has {built[0]} and {built[1]}"
        )
    if zeros:
        found.append(f"{zeros} tensors that no computation reads are zeros")
    return found
