"""Restorer files: a restorer of ours in one safetensors file, and those of others in any known layout."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch

from deflow_cli.checkpoints.architectures import read_restorer
from deflow_cli.checkpoints.esrgan.files import Esrgan
from deflow_cli.checkpoints.foreign import read_state_dict
from deflow_cli.checkpoints.format import (
    FORMAT_VERSION,
    RESTORER_KIND,
    TRANSLATOR_KIND,
    facts_from_json,
    restorer_metadata,
    write_tensors,
)
from deflow_cli.checkpoints.srflow.files import SRFLOW_ARCHITECTURE, srflow_from_file
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import CheckpointError, ConfigError, naming
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.paths import RESTORER_FILE
from deflow_cli.tensor_files import read_safetensors_metadata, tensor_file_kind

DESCRIPTION = "Restores degraded photographs"

# The networks that turn small or degraded images into good ones: one answer, or samples of many.
RestoringNetwork: TypeAlias = RRDBNet | SRFlow


def save_restorer(path: Path, model: RRDBNet, facts: Mapping[str, Any]) -> None:
    """Write ``restorer.safetensors``: bare keys of BasicSR, metadata of ModelSpec and ours, atomically.

    facts: JSON-ready facts of the training, as for ``restorer_metadata``.
    """
    config = dataclasses.asdict(model.config)
    write_tensors(path, model.state_dict(), restorer_metadata(path, Esrgan.name, DESCRIPTION, config, facts))


def load_restorer(
    path: Path, device: torch.device | str = "cpu", tell: Callable[[str], None] | None = None
) -> tuple[RestoringNetwork, dict[str, Any]]:
    """A restorer in evaluation mode, float32, and the facts known of it.

    path: a file of ours, a restorer of others of any registered architecture (.pth or .safetensors), or a
    folder with a ``restorer.safetensors``. tell: hears what was stripped and what assumed. Our files of
    an SRFlow say so in their metadata; sizes of all others come from the tensors' names and shapes. The
    facts have at least ``title`` and ``dialect`` (the file's layout; of an ESRGAN new | mid | old),
    ``assumed`` (what the file does not tell) where anything was, and of our own files also ``date``,
    ``version`` and what was saved with them. Raises CheckpointError naming the file and the tensor that
    does not fit.
    """
    path = path / RESTORER_FILE if path.is_dir() else path
    state = read_state_dict(path, tell)
    metadata = read_safetensors_metadata(path) if tensor_file_kind(path) == "safetensors" else {}
    architecture = metadata.get("modelspec.architecture")
    is_ours = metadata.get("deflow.kind") == RESTORER_KIND
    if architecture == "deflow" or metadata.get("deflow.kind") == TRANSLATOR_KIND:
        raise CheckpointError(
            f"{path}: a degradation model, not a restorer",
            next_step=f"pass the {RESTORER_FILE} of `deflow sr-train`, or an ESRGAN file",
        )
    if is_ours and metadata.get("deflow.format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: restorer format {metadata.get('deflow.format')}, this deflow reads {FORMAT_VERSION}",
            next_step="update deflow",
        )
    facts = _facts(path, metadata)
    if is_ours and architecture == SRFLOW_ARCHITECTURE:
        with naming(path, CheckpointError):
            model = srflow_from_file(state, metadata)
        return model.to(device), facts | {"dialect": "deflow"}
    with naming(path, CheckpointError):
        loaded = read_restorer(state)
    if is_ours and isinstance(loaded.model, RRDBNet):
        _check_config(path, metadata, loaded.model.config)
    if loaded.assumed:
        facts["assumed"] = loaded.assumed
        if tell is not None:
            tell(f"{path}: does not tell all, assumed: {'; '.join(loaded.assumed)}")
    return loaded.model.to(device), facts | {"dialect": loaded.layout}


def load_esrgan(
    path: Path, device: torch.device | str = "cpu", tell: Callable[[str], None] | None = None
) -> tuple[RRDBNet, dict[str, Any]]:
    """``load_restorer`` for callers that can use an ESRGAN generator alone.

    Raises CheckpointError, naming the file, for an SRFlow as well.
    """
    model, facts = load_restorer(path, device, tell)
    if isinstance(model, SRFlow):
        raise CheckpointError(
            f"{path}: an SRFlow model, not an ESRGAN generator", next_step="pass an ESRGAN file here"
        )
    return model, facts


def _check_config(path: Path, metadata: Mapping[str, str], found: RestorerConfig) -> None:
    """A file without its last up-convolution looks like a smaller scale: the stored sizes tell."""
    try:
        stored = RestorerConfig(**json.loads(metadata["deflow.config"]))
    except (ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
        raise CheckpointError(f"{path}: the stored configuration cannot be read ({error})") from error
    if _explicit(stored) != _explicit(found):
        raise CheckpointError(
            f"{path}: its tensors are those of {found}, but it was stored as {stored}",
            next_step="copy the file again",
        )


def _explicit(config: RestorerConfig) -> RestorerConfig:
    return dataclasses.replace(config, unshuffle=config.unshuffle_factor)


def _facts(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    facts: dict[str, Any] = {"title": metadata.get("modelspec.title", path.stem)}
    for key in ("author", "description", "license", "date"):
        if metadata.get(f"modelspec.{key}"):
            facts[key] = metadata[f"modelspec.{key}"]
    if metadata.get("deflow.kind") != RESTORER_KIND:
        return facts
    training = facts_from_json(path, metadata.get("deflow.training", "{}"))
    return {**training, **facts, "version": metadata.get("deflow.version", "")}
