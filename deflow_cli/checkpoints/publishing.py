"""Publishing: a model's file as it may be shown to everyone, without names of the machine it was made on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deflow_cli.checkpoints.format import facts_from_json, read_tensors, write_tensors
from deflow_cli.errors import CheckpointError
from deflow_cli.tensor_files import read_safetensors_metadata, tensor_file_kind

# Absolute paths of Unix, of Windows and of a home, wherever they stand in a text.
_PLACE = re.compile(
    r"(?:(?<![\w.:/)])/[\w.~@+-]+/[^\s\"']*|\b[A-Za-z]:[\\/][^\s\"']+|~[\w.-]*/[^\s\"']+|\\\\[\w.-]+\\[^\s\"']*)"
)
_SETTING = re.compile(r'^(\w+ = ")([^"\n]*[/\\][^"\n]*)(")', re.MULTILINE)  # a file in a run's TOML
_PICTURES = "components"  # names of the user's pictures, by component


def write_publishable(source: Path, target: Path, card: Mapping[str, str]) -> None:
    """Write a model's file for others: the same tensors, with facts that name no place and no picture.

    card: values of ModelSpec's keys that are to be changed, such as ``title``; empty ones are not. Files in
    settings keep their last name. Raises CheckpointError for a file that is none of ours.
    """
    metadata = read_safetensors_metadata(source) if tensor_file_kind(source) == "safetensors" else {}
    if "deflow.config" not in metadata:
        raise CheckpointError(
            f"{source}: no model file of ours",
            next_step="convert it: deflow import-weights, or deflow export",
        )
    facts = facts_from_json(source, metadata.get("deflow.training", "{}"))
    said = {key: without_places(value) for key, value in metadata.items() if key != "deflow.training"}
    facts.pop(_PICTURES, None)
    said["deflow.training"] = json.dumps(_cleared(facts))
    said |= {f"modelspec.{key}": value for key, value in card.items() if value}
    said.pop("format", None)  # which writing adds
    tensors, _ = read_tensors(source)
    write_tensors(target, tensors, said)


def _cleared(value: Any) -> Any:
    """A value of JSON with all its texts cleared of places."""
    if isinstance(value, dict):
        return {without_places(key): _cleared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleared(item) for item in value]
    return without_places(value) if isinstance(value, str) else value


def without_places(text: str) -> str:
    """A text whose absolute paths are dots, and whose files in settings have their last name alone.

    >>> [without_places(text) for text in ("in /home/ann/a", "C:\\\\photos", "5.1/255", "https://a.b/c/d")]
    ['in ...', '...', '5.1/255', 'https://a.b/c/d']
    """
    text = _SETTING.sub(
        lambda match: match[1] + re.split(r"[/\\]+", match[2].rstrip("/\\"))[-1] + match[3], text
    )
    return _PLACE.sub("...", text)
