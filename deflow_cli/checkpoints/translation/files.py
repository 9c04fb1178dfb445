"""Translation models: files of the networks that DSGAN, DASR and CycleGAN degrade pictures by."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deflow_cli.checkpoints.architectures import misfits
from deflow_cli.checkpoints.format import (
    CARD,
    FORMAT_VERSION,
    TRANSLATOR_KIND,
    facts_from_json,
    model_metadata,
    read_tensors,
    write_tensors,
)
from deflow_cli.config.checks import check_types
from deflow_cli.config.translation import CycleGeneratorConfig, ResidualGeneratorConfig
from deflow_cli.errors import CheckpointError, ConfigError, naming
from deflow_cli.models.translation.generators import CycleGenerator, Generator, ResidualGenerator

MOST_SIZES = (1024, 256)  # channels and blocks of a generator that a file may ask for


@dataclass(frozen=True)
class TranslationModel:
    """A generator in evaluation mode, the method that trained it, and the facts of its training."""

    generator: Generator
    method: str
    facts: dict[str, Any]


def save_translator(path: Path, generator: Generator, method: str, facts: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` atomically. method: dsgan, dasr or cyclegan; the file says so.

    facts: JSON-ready facts of the training; of these ``title``, ``author``, ``description`` and ``license``
    become ModelSpec's keys.
    """
    config = dataclasses.asdict(generator.config)
    metadata = model_metadata(path, method, TRANSLATOR_KIND, "Degrades clean photographs", config, facts)
    write_tensors(path, generator.state_dict(), metadata)


def load_translator(
    path: Path, device: torch.device | str = "cpu", method: str | None = None
) -> TranslationModel:
    """The model of a file. method: which it must be; None: any.

    Raises CheckpointError naming the file where it holds another model, or a damaged one.
    """
    tensors, metadata = read_tensors(path)
    found = metadata.get("modelspec.architecture", "")
    if metadata.get("deflow.kind") != TRANSLATOR_KIND or (method is not None and found != method):
        named = found or "not one of deflow's own"
        raise CheckpointError(
            f"{path}: holds a model of another kind ({named}), not of {method or 'DSGAN, DASR or CycleGAN'}",
            next_step=f"leave --degrader out, or use --degrader {found}" if found else "pass a fit's model",
        )
    if metadata.get("deflow.format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: model format {metadata.get('deflow.format')}, this deflow reads {FORMAT_VERSION}",
            next_step="update deflow",
        )
    with naming(path, CheckpointError):
        generator = _generator(found, metadata.get("deflow.config", ""))
        layout = {key: tuple(value.shape) for key, value in generator.state_dict().items()}
        if problems := misfits(tensors, layout):
            raise CheckpointError(
                f"tensors do not fit the stored configuration: {problems}", next_step="copy or fit it again"
            )
    generator.load_state_dict(tensors, strict=True, assign=True)
    training = facts_from_json(path, metadata.get("deflow.training", "{}"))
    card = {key: metadata[f"modelspec.{key}"] for key in CARD if metadata.get(f"modelspec.{key}")}
    known = {"date": metadata.get("modelspec.date", ""), "version": metadata.get("deflow.version", "")}
    facts = {**card, **known, **training}
    return TranslationModel(generator.float().requires_grad_(False).eval().to(device), found, facts)


def _generator(method: str, config: str) -> Generator:
    """A generator of stored sizes, without memory. Raises CheckpointError where they are none."""
    try:
        kind = CycleGeneratorConfig if method == "cyclegan" else ResidualGeneratorConfig
        sizes = kind(**json.loads(config))
        check_types(sizes)
        if sizes.channels > MOST_SIZES[0] or sizes.blocks > MOST_SIZES[1]:
            raise ValueError(f"{sizes.channels} channels, {sizes.blocks} blocks")
    except (ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
        raise CheckpointError(f"the stored configuration cannot be read ({error})") from error
    with torch.device("meta"):
        if isinstance(sizes, CycleGeneratorConfig):
            return CycleGenerator(sizes)
        return ResidualGenerator(sizes)
