"""Restorer exports: files for other programs, and the entry of a public data base of models."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from datetime import date as Date
from pathlib import Path
from typing import Any

import torch

from deflow_cli.checkpoints.esrgan.keys import MID, NEW, OLD, tensor_names
from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.models.esrgan.generator import RRDBNet

EXPORTS = {"basicsr": NEW, "realsr": MID, "esrgan": OLD}
SPANDREL_GROWTH = 32
RESOURCE_TYPES = {".pth": "pth", ".safetensors": "safetensors"}


def export_restorer(model: RRDBNet, path: Path, dialect: str = "basicsr") -> list[str]:
    """Write a .pth file for other programs, atomically; what they cannot do with it, in words.

    dialect: basicsr ({'params_ema': new keys}: BasicSR, Real-ESRGAN) | realsr (bare mid keys: RealSR, BSRGAN)
    | esrgan (bare old keys: programs of the first ESRGAN). Raises ConfigError for another dialect or suffix.
    """
    if dialect not in EXPORTS:
        raise ConfigError(f"format {dialect!r} is not known", next_step=f"use one of {', '.join(EXPORTS)}")
    if path.suffix != ".pth":
        raise ConfigError(f"{path}: these programs read .pth files", next_step=f"use {path.stem}.pth")
    config = model.config
    names = tensor_names(EXPORTS[dialect], config.blocks, config.doublings)
    # clones: the file must not carry more than the tensors, whatever storage they share
    state = {
        names[key]: value.detach().cpu().float().contiguous().clone()
        for key, value in model.state_dict().items()
    }
    buffer = io.BytesIO()
    torch.save({"params_ema": state} if dialect == "basicsr" else state, buffer)
    write_atomically(path, buffer.getvalue())
    return caveats(config, dialect)


def caveats(config: RestorerConfig, dialect: str = "basicsr") -> list[str]:
    """Which programs will not take an export of this network, and why; empty where all do."""
    found = []
    if config.growth_channels != SPANDREL_GROWTH:
        found.append(
            f"chaiNNer and other programs on spandrel know {SPANDREL_GROWTH} growth channels alone; "
            f"this network has {config.growth_channels}"
        )
    if config.doublings != 2 and dialect == "basicsr":
        found.append(f"BasicSR and Real-ESRGAN double the size twice; this network {config.doublings} times")
    if (config.doublings != 2 or config.unshuffle_factor != 1) and dialect == "realsr":
        found.append("RealSR restores x4 without pixel-unshuffle alone")
    return found


def open_model_db(
    file: Path,
    config: RestorerConfig,
    *,
    name: str,
    author: str,
    license_id: str,
    description: str,
    date: Date,
    tags: Sequence[str] = ("restoration",),
    urls: Sequence[str] = (),
) -> tuple[str, dict[str, Any]]:
    """The id and the entry of a restorer in OpenModelDB, whose file name is ``{id}.json``.

    file: the .pth or .safetensors file that ``urls`` will serve; its size and sha256 are recorded.
    license_id: SPDX. Raises ConfigError for a name without letters and digits, or a file of another kind, and
    CheckpointError for a missing file.
    """
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    if not slug:
        raise ConfigError(f"model name {name!r} has neither letters nor digits", next_step="use both")
    if file.suffix not in RESOURCE_TYPES:
        raise ConfigError(f"{file}: OpenModelDB lists .pth and .safetensors files", next_step="export one")
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file", next_step="export the restorer first")
    entry = {
        "name": name,
        "author": author,
        "license": license_id,
        "tags": list(tags),
        "description": description,
        "date": date.isoformat(),
        "architecture": "esrgan",
        "size": [f"{config.channels}nf", f"{config.blocks}nb"],
        "scale": config.scale,
        "inputChannels": config.image_channels,
        "outputChannels": config.image_channels,
        "resources": [_resource(file, urls)],
        "images": [],
    }
    return f"{config.scale}x-{slug}", entry


def _resource(file: Path, urls: Sequence[str]) -> dict[str, Any]:
    """The file of an entry: type, size, checksum and where it can be downloaded."""
    with open(file, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {
        "platform": "pytorch",
        "type": RESOURCE_TYPES[file.suffix],
        "size": file.stat().st_size,
        "sha256": digest,
        "urls": list(urls),
    }
