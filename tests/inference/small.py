"""Small: a model of a few thousand weights that behaves like a fitted one, and pictures for it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from deflow_cli.config.model import FlowConfig, ModelConfig
from deflow_cli.layers.networks.conditioned import ZeroConv3x3
from deflow_cli.models.deflow.initialization import start_flow
from deflow_cli.models.deflow.model import DeFlow
from tests.small import ENCODER, FLOW_SIZES

SHIFT_MEAN, SHIFT_STD = (0.3, -0.3), (0.2, 0.6)  # per component, of every latent channel


def small_config(shift: str = "mixture:2", **flow: object) -> ModelConfig:
    choices = {"splits": "none", "scale": "bounded", "shift": shift, **flow}
    return ModelConfig(FlowConfig(**{**FLOW_SIZES, **choices}), ENCODER)


def smooth_images(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth pictures with a little texture in [0.1, 0.9]: B 3 H W."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    image = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    texture = torch.randn(count, 3, height, width, generator=generator)
    return (image + 0.02 * texture).clamp(0.1, 0.9)


def build(shift: str = "mixture:2", **flow: object) -> DeFlow:
    """A model started from data, its last convolutions off zero, its shift of known moments."""
    torch.set_num_threads(1)
    model = DeFlow(small_config(shift, **flow), seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ZeroConv3x3):
                module.weight.normal_(0.0, 0.02, generator=generator)
        images = smooth_images(8, 32, 32, seed=1)
        h = model.condition_image(images)
        start_flow(model, images, h, whiten=False)
        for latent in model.prior.shared():
            for k in range(model.prior.components):
                mean = torch.full((latent.channels,), SHIFT_MEAN[k])
                latent.set_moments(k, mean, SHIFT_STD[k] ** 2 * torch.eye(latent.channels))
        if model.prior.components == 2:
            model.prior.weight_logits.copy_(torch.tensor([0.7, 0.3]).log())
    return model.eval()


@functools.cache
def small_model(shift: str = "mixture:2") -> DeFlow:
    """The same model for every test: not to be changed."""
    return build(shift)
