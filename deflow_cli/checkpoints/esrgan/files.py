"""ESRGAN generators: recognised in three namings of their tensors, loaded strictly, written for others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from deflow_cli.checkpoints.architectures import Loaded, RestorerArchitecture, misfits
from deflow_cli.checkpoints.esrgan.export import EXPORTS, export_restorer
from deflow_cli.checkpoints.esrgan.keys import Dialect, dialect_of, recognised, sizes_of, tensor_names
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.models.esrgan.generator import RRDBNet


class Esrgan(RestorerArchitecture):
    """RRDBNet of ESRGAN (ECCVW 2018), x1 to x16, in any of the three dialects."""

    name = "esrgan"
    formats = tuple(EXPORTS)

    def detects(self, state: Mapping[str, Tensor]) -> bool:
        return recognised(state) is not None

    def load(self, state: Mapping[str, Tensor]) -> Loaded[RRDBNet]:
        model, dialect = restorer_from_state(state)
        return Loaded(model, dialect.name)

    def export(self, model: RRDBNet, path: Path, file_format: str) -> list[str]:
        return export_restorer(model, path, file_format)


def restorer_from_state(state: Mapping[str, Tensor]) -> tuple[RRDBNet, Dialect]:
    """A restorer with the tensors of a state dict, whose names may be of any dialect; and that dialect.

    Raises CheckpointError naming the tensors that are missing, unexpected or misshapen, as they call them.
    """
    dialect = dialect_of(state)
    blocks, doublings = sizes_of(state, dialect)
    names = tensor_names(dialect, blocks, doublings)
    expected: dict[str, tuple[int, ...] | None] = dict.fromkeys(names.values())
    if all(theirs in state for theirs in names.values()):
        config = _config({ours: tuple(state[theirs].shape) for ours, theirs in names.items()}, names)
        with torch.device("meta"):
            model = RRDBNet(config)
        expected = {names[ours]: tuple(value.shape) for ours, value in model.state_dict().items()}
    problems = misfits(state, expected)
    if problems:
        raise CheckpointError(
            f"does not fit an ESRGAN generator of {blocks} blocks ({dialect.name} keys): {problems}",
            next_step="variants of ESRGAN with other layers cannot be used",
        )
    tensors = {ours: state[theirs].detach().to(torch.float32) for ours, theirs in names.items()}
    model.load_state_dict(tensors, strict=True, assign=True)
    return model.requires_grad_(True).eval(), dialect


def _config(shapes: Mapping[str, tuple[int, ...]], names: Mapping[str, str]) -> RestorerConfig:
    """Sizes by the shapes under our names. Raises CheckpointError where they are of no such network."""
    telling = ("conv_first.weight", "conv_last.weight", "body.0.rdb1.conv1.weight")
    for key in telling:
        if len(shapes[key]) != 4 or 0 in shapes[key]:
            raise CheckpointError(f"{names[key]} is {shapes[key]}, not the weight of a convolution")
    channels, inputs = shapes["conv_first.weight"][:2]
    images = shapes["conv_last.weight"][0]
    doublings = sum(key.startswith("conv_up") and key.endswith("weight") for key in shapes)
    factor = next((r for r in (1, 2, 4) if inputs == images * r * r), None)
    if factor is None or 2**doublings % factor:
        raise CheckpointError(
            f"{names['conv_first.weight']} takes {inputs} channels and {names['conv_last.weight']} gives "
            f"{images}, with {doublings} doublings: not an ESRGAN of ours",
            next_step="inputs are images, or their pixels unshuffled by 2 or 4",
        )
    try:
        config = RestorerConfig(
            scale=2**doublings // factor,
            channels=channels,
            blocks=1 + max(int(key.split(".")[1]) for key in shapes if key.startswith("body.")),
            growth_channels=shapes["body.0.rdb1.conv1.weight"][0],
            unshuffle=factor,
            image_channels=images,
        )
    except ConfigError as error:
        raise CheckpointError(str(error), next_step=error.next_step) from error
    usual = dataclasses.replace(config, unshuffle=0)
    return usual if usual.unshuffle_factor == factor else config
