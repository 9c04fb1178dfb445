"""Small SRFlow models in the published layout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deflow_cli.checkpoints.srflow.published import published_srflow_layout
from deflow_cli.config.model import EncoderConfig
from deflow_cli.config.srflow import SRFlowConfig, SRFlowModelConfig
from deflow_cli.models.srflow.model import SRFlow

State = dict[str, Tensor]


def config(blocks: int = 2, stacked: tuple[int, ...] = (0, 1), **flow: Any) -> SRFlowModelConfig:
    """Of a small published model."""
    sizes = {"steps": 2, "hidden_channels": 8, "noise": "none"} | flow
    encoder = EncoderConfig(channels=8, growth_channels=4, blocks=blocks, stacked_blocks=stacked)
    return SRFlowModelConfig(SRFlowConfig(**sizes), encoder)


def published_state(of: SRFlowModelConfig, seed: int = 0) -> State:
    """A file of the authors: procedural tensors under their names, in their order."""
    random = torch.Generator().manual_seed(seed)
    layout = published_srflow_layout(SRFlow(of))
    return {name: 0.05 * torch.randn(shape, generator=random) for name, shape in layout.items()}
