"""Restorer files: an ESRGAN generator of ours in one safetensors file, and those of others in any dialect."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deflow_cli import __version__
from deflow_cli.checkpoints.esrgan_keys import Dialect, dialect_of, sizes_of, tensor_names
from deflow_cli.checkpoints.foreign import read_state_dict
from deflow_cli.checkpoints.format import FORMAT_VERSION, read_metadata, write_tensors
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import CheckpointError, ConfigError, naming
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.paths import RESTORER_FILE

KIND = "restorer"
DESCRIPTION = "Restores degraded photographs"
CARD = ("title", "author", "description", "license")  # facts that ModelSpec has keys for


def save_restorer(path: Path, model: RRDBNet, facts: Mapping[str, Any]) -> None:
    """Write ``restorer.safetensors``: bare keys of BasicSR, metadata of ModelSpec and ours, atomically.

    facts: JSON-ready facts of the training (data, steps, scores, ...). Of these ``title``, ``author``,
    ``description`` and ``license`` (SPDX) become ModelSpec's, where given.
    """
    card = {"title": path.stem, "description": DESCRIPTION} | {
        key: str(facts[key]) for key in CARD if facts.get(key)
    }
    metadata = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "esrgan",
        "modelspec.implementation": "deflow-cli",
        "modelspec.date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **{f"modelspec.{key}": value for key, value in card.items()},
        "deflow.kind": KIND,
        "deflow.format": FORMAT_VERSION,
        "deflow.version": __version__,
        "deflow.config": json.dumps(dataclasses.asdict(model.config)),
        "deflow.training": json.dumps({key: value for key, value in facts.items() if key not in CARD}),
    }
    write_tensors(path, model.state_dict(), metadata)


def load_restorer(path: Path, device: torch.device | str = "cpu") -> tuple[RRDBNet, dict[str, Any]]:
    """A restorer in evaluation mode, float32, and the facts known of it.

    path: a file of ours, an ESRGAN generator of others (.pth or .safetensors, any of the three dialects), or
    a folder with a ``restorer.safetensors``. Sizes come from the tensors' names and shapes. The facts have at
    least ``title`` and ``dialect`` (new | mid | old), and of our own files also ``date``, ``version`` and
    what ``save_restorer`` was given. Raises CheckpointError naming the file and the tensor that does not fit.
    """
    path = path / RESTORER_FILE if path.is_dir() else path
    state = read_state_dict(path)
    metadata = read_metadata(path) if path.suffix == ".safetensors" else {}
    if metadata.get("modelspec.architecture") == "deflow":
        raise CheckpointError(
            f"{path}: a degradation model, not a restorer",
            next_step=f"pass the {RESTORER_FILE} of `deflow sr-train`, or an ESRGAN file",
        )
    if metadata.get("deflow.kind") == KIND and metadata.get("deflow.format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: restorer format {metadata.get('deflow.format')}, this deflow reads {FORMAT_VERSION}",
            next_step="update deflow",
        )
    with naming(path, CheckpointError):
        model, dialect = restorer_from_state(state)
    facts = _facts(path, metadata)
    if metadata.get("deflow.kind") == KIND:
        _check_config(path, metadata, model.config)
    return model.to(device), facts | {"dialect": dialect.name}


def _check_config(path: Path, metadata: Mapping[str, str], found: RestorerConfig) -> None:
    """A file without its last up-convolution looks like a smaller scale: the stored sizes tell."""
    try:
        stored = RestorerConfig(**json.loads(metadata["deflow.config"]))
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path}: the stored configuration cannot be read ({error})") from error
    if _explicit(stored) != _explicit(found):
        raise CheckpointError(
            f"{path}: its tensors are those of {found}, but it was stored as {stored}",
            next_step="copy the file again",
        )


def _explicit(config: RestorerConfig) -> RestorerConfig:
    return dataclasses.replace(config, unshuffle=config.unshuffle_factor)


def restorer_from_state(state: Mapping[str, Tensor]) -> tuple[RRDBNet, Dialect]:
    """A restorer with the tensors of a state dict, whose names may be of any dialect; and that dialect.

    Raises CheckpointError naming the tensors that are missing, unexpected or misshapen, as they call them.
    """
    dialect = dialect_of(state)
    blocks, doublings = sizes_of(state, dialect)
    names = tensor_names(dialect, blocks, doublings)
    missing = [theirs for theirs in names.values() if theirs not in state]
    problems = [f"missing {key}" for key in missing]
    problems += [f"unexpected {key}" for key in sorted(set(state) - set(names.values()))]
    if not missing:
        config = _config({ours: tuple(state[theirs].shape) for ours, theirs in names.items()}, names)
        with torch.device("meta"):
            model = RRDBNet(config)
        expected = {names[ours]: tuple(value.shape) for ours, value in model.state_dict().items()}
        problems += [
            f"{key} is {tuple(state[key].shape)}, expected {shape}"
            for key, shape in expected.items()
            if tuple(state[key].shape) != shape
        ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(
            f"does not fit an ESRGAN generator of {blocks} blocks ({dialect.name} keys): "
            + "; ".join(problems[:5])
            + more,
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


def _facts(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    facts: dict[str, Any] = {"title": metadata.get("modelspec.title", path.stem)}
    for key in ("author", "description", "license", "date"):
        if metadata.get(f"modelspec.{key}"):
            facts[key] = metadata[f"modelspec.{key}"]
    if metadata.get("deflow.kind") != KIND:
        return facts
    try:
        training = json.loads(metadata.get("deflow.training", "{}"))
    except ValueError as error:
        raise CheckpointError(f"{path}: the stored facts cannot be read ({error})") from error
    return {**training, **facts, "version": metadata.get("deflow.version", "")}
