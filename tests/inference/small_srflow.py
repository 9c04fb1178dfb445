"""A small SRFlow whose parameters are random, for tests of what is done with one."""

from __future__ import annotations

import torch
from torch import Tensor

from deflow_cli.config.model import EncoderConfig
from deflow_cli.config.srflow import SRFlowConfig, SRFlowModelConfig
from deflow_cli.models.srflow.model import SRFlow

ENCODER = EncoderConfig(channels=8, growth_channels=4, blocks=1, stacked_blocks=(0,))


def started_srflow(**srflow: object) -> SRFlow:
    """With ActNorms started from data, and output convolutions that are not zero."""
    defaults: dict[str, object] = {
        "scale": 4,
        "levels": 3,
        "steps": 2,
        "hidden_channels": 8,
        "splits": "all",
        "form": "inverted",
        "affine": "bounded",
        "affine_bound": 0.3,
        "residual": "consistent",
    }
    config = SRFlowConfig(**defaults | srflow)  # type: ignore[arg-type]
    model = SRFlow(SRFlowModelConfig(config, ENCODER), seed=3)
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("conv_out.weight"):
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=random))
    x = images(4, 16, 16)
    y = torch.nn.functional.interpolate(x, scale_factor=model.scale, mode="nearest")
    y = y + 0.1 * torch.randn(y.shape, generator=random)
    model.start(y, x, None, regression=False)
    return model.eval()


def images(count: int, height: int, width: int, seed: int = 5) -> Tensor:
    """Smooth random images: B 3 H W."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand((count, 3, height // 4 + 2, width // 4 + 2), generator=random)
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
