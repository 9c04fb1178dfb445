"""Full tensors: the golden folder named by DEFLOW_GOLDEN, where it is set."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from deflow_cli.models.deflow.model import DeFlow
from tests.golden.parity import golden_config, golden_model, golden_state

FOLDER = os.environ.get("DEFLOW_GOLDEN", "")
needs_golden = pytest.mark.skipif(not FOLDER, reason="DEFLOW_GOLDEN is not set: full golden tensors skipped")


@dataclass(frozen=True)
class Golden:
    """One golden model: ``io`` tensors, ``info`` (its JSON) and the published state dict."""

    io: dict[str, Tensor]
    info: dict[str, Any]
    state: dict[str, Tensor]

    def model(self, dtype: torch.dtype = torch.float32) -> DeFlow:
        return golden_model(self.state, dtype)

    def image(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """``name`` for instance s0.gt or init.lr."""
        return self.io[f"{name}_u8"].to(dtype) / 255

    def listed(self, prefix: str) -> list[Tensor]:
        """Tensors prefix0, prefix1, ... in order."""
        count = sum(key.startswith(prefix) and key[len(prefix) :].isdigit() for key in self.io)
        return [self.io[f"{prefix}{index}"] for index in range(count)]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose names start with ``prefix``, by the rest of the name."""
        return {key[len(prefix) :]: value for key, value in self.io.items() if key.startswith(prefix)}


def load_golden(name: str) -> Golden:
    io = load_file(Path(FOLDER) / f"{name}.io.safetensors")
    info = json.loads((Path(FOLDER) / f"{name}.json").read_text())
    actnorm = {key[3:]: value for key, value in io.items() if key.startswith("sd.")}
    return Golden(io, info, golden_state(golden_config(info["config"]), info["seed"], actnorm))
