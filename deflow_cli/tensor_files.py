"""Tensor files: what a file of weights by others holds, read without running any code in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deflow_cli.errors import CheckpointError


def read_content(path: Path) -> Any:
    """What a .safetensors file, or a .pth file (read with ``weights_only``), holds, on the CPU.

    Raises CheckpointError naming the file where it is missing or broken.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file", next_step="check the path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a broken file
        raise CheckpointError(
            f"{path}: cannot be read as weights ({type(error).__name__}: {error})",
            next_step="give a .safetensors file or a .pth file that holds tensors alone",
        ) from error


def read_trunk(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file, on the CPU.

    Raises CheckpointError naming the file where it is missing, broken or no state dict.
    """
    content = read_content(path)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path}: holds no state dict", next_step="export the weights alone")
    return {str(key): value for key, value in content.items()}
