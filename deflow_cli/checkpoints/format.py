"""Format: one safetensors file that carries a model and all that is needed to use it anywhere."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deflow_cli import __version__
from deflow_cli.checkpoints.architectures import check_least_parameters, misfits
from deflow_cli.config.checks import check_types
from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.errors import CheckpointError, ConfigError, naming, unwritable
from deflow_cli.models.deflow.conditioning import add_saturation
from deflow_cli.models.deflow.grain import bring_up_to_date
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.paths import temporary_beside
from deflow_cli.tensor_files import read_safetensors, safetensors_parts

FORMAT_VERSION = "1"
RESTORER_KIND = "restorer"
TRANSLATOR_KIND = "translator"  # a network that degrades, one answer for each picture
CARD = ("title", "author", "description", "license")  # facts that ModelSpec has keys for


def write_atomically(path: Path, *parts: bytes | memoryview) -> None:
    """Write to a temporary name in the same folder, flush to disk, then rename: never half a file.

    parts: of the content, one after the other. Raises DataError naming the file where the disk is full or the
    folder cannot be written to.
    """
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file with string metadata, written atomically; the same ones give the same bytes."""
    contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    write_atomically(path, *safetensors_parts(contiguous, {"format": "pt", **metadata}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (on the CPU) and metadata of a safetensors file. Raises CheckpointError naming the file."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file", next_step="check the path, or fit a model first")
    return read_safetensors(path)


def restorer_metadata(
    path: Path, architecture: str, description: str, config: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, str]:
    """The metadata of a restorer's file, as ``model_metadata`` has it."""
    return model_metadata(path, architecture, RESTORER_KIND, description, config, facts)


def model_metadata(
    path: Path,
    architecture: str,
    kind: str,
    description: str,
    config: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> dict[str, str]:
    """The metadata of a model's file: ModelSpec's keys, then ours.

    kind: restorer or translator. config: the network's sizes, JSON-ready. facts: JSON-ready facts of the
    training (data, steps, scores). Of these ``title``, ``author``, ``description`` and ``license`` (SPDX)
    become ModelSpec's, where given.
    """
    card = {"title": path.stem, "description": description} | {
        key: str(facts[key]) for key in CARD if facts.get(key)
    }
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": architecture,
        "modelspec.implementation": "deflow-cli",
        "modelspec.date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **{f"modelspec.{key}": value for key, value in card.items()},
        "deflow.kind": kind,
        "deflow.format": FORMAT_VERSION,
        "deflow.version": __version__,
        "deflow.config": json.dumps(config),
        "deflow.training": json.dumps({key: value for key, value in facts.items() if key not in CARD}),
    }


def save_model(path: Path, model: DeFlow, training: Mapping[str, Any], *, title: str = "") -> None:
    """Write ``model.safetensors``. ``training``: JSON-ready facts of the fit (data, steps, NLLs, ...)."""
    metadata = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "deflow",
        "modelspec.implementation": "deflow-cli",
        "modelspec.title": title or path.stem,
        "modelspec.description": "Stochastic degradation model: clean photographs to degraded ones",
        "modelspec.date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "deflow.format": FORMAT_VERSION,
        "deflow.version": __version__,
        "deflow.config": json.dumps(dataclasses.asdict(model.config)),
        "deflow.training": json.dumps(dict(training)),
    }
    write_tensors(path, model.state_dict(), metadata)


def model_config_from_json(text: str) -> ModelConfig:
    """The configuration stored beside the tensors. Raises CheckpointError when it is not one of ours."""
    try:
        content = json.loads(text)
        encoder = dict(content["encoder"])
        encoder["stacked_blocks"] = tuple(encoder["stacked_blocks"])
        config = ModelConfig(FlowConfig(**content["flow"]), EncoderConfig(**encoder))
        check_types(config.flow)
        check_types(config.encoder)
        return config
    except (ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
        raise CheckpointError(f"the stored configuration cannot be read ({error})") from error


def facts_from_json(path: Path, text: str) -> dict[str, Any]:
    """The facts stored beside the tensors. Raises CheckpointError naming the file where they are none."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise CheckpointError(f"{path}: the stored facts cannot be read", next_step="copy or fit it again")
    return facts


def load_model(path: Path, device: torch.device | str = "cpu") -> tuple[DeFlow, dict[str, Any]]:
    """A model in evaluation mode and the facts of its fit. Raises CheckpointError naming the file."""
    tensors, metadata = read_tensors(path)
    if metadata.get("deflow.kind") == RESTORER_KIND:
        raise CheckpointError(
            f"{path}: a restorer, not a degradation model", next_step="pass the model.safetensors of a fit"
        )
    if metadata.get("deflow.kind") == TRANSLATOR_KIND:
        method = metadata.get("modelspec.architecture", "another method")
        raise CheckpointError(
            f"{path}: a model of {method}, not a DeFlow",
            next_step=f"use it by --degrader {method} in make-pairs and sr-train, or in degrade",
        )
    if "deflow.config" not in metadata:
        raise CheckpointError(
            f"{path}: not a deflow model (it has no deflow.config)",
            next_step="convert published weights by `deflow import-weights FILE OUT.safetensors`",
        )
    if metadata.get("deflow.format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: model format {metadata.get('deflow.format')}, this deflow reads {FORMAT_VERSION}",
            next_step="update deflow",
        )
    with naming(path, CheckpointError):
        config = model_config_from_json(metadata["deflow.config"])
        check_least_parameters(tensors, config.least_parameters)
        bring_up_to_date(tensors)
        add_saturation(tensors, "statistics.")
        model = DeFlow(config)
        layout = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        if problems := misfits(tensors, layout):
            raise CheckpointError(
                f"tensors do not fit the stored configuration: {problems}", next_step="copy or fit it again"
            )
    model.load_state_dict(tensors, strict=True)
    training = facts_from_json(path, metadata.get("deflow.training", "{}"))
    facts = {
        "title": metadata.get("modelspec.title", path.stem),
        "date": metadata.get("modelspec.date", ""),
        "version": metadata.get("deflow.version", ""),
        **training,
    }
    return model.eval().to(device), facts
