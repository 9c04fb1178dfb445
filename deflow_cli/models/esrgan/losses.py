"""Losses: what the generator and the discriminator of ESRGAN are trained by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.layers.networks.trunk import refuse_others, take
from deflow_cli.tensor_files import read_trunk

VGG19_FILE = "torchvision's vgg19-dcbb9e9d.pth"
# VGG19 (ICLR 2015) to conv5_4: output channels of 3x3 convolutions, each but the last with a ReLU; 0: pool
VGG19_PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


BatchMean = Callable[[Tensor], Tensor]
"""The mean over a batch, of which a process may have a part only."""


def pixel_loss(images_bchw: Tensor, targets_bchw: Tensor) -> Tensor:
    """Mean absolute difference, a scalar."""
    return F.l1_loss(images_bchw, targets_bchw)


def relativistic_generator_loss(
    real_logits: Tensor, fake_logits: Tensor, mean: BatchMean = Tensor.mean
) -> Tensor:
    """The generator's part of the relativistic average GAN, a scalar (ICLR 2019; ESRGAN, eq. 2).

    1/2 [ BCE(r - mean f, 0) + BCE(f - mean r, 1) ]; means over the batch, and over the map where the
    discriminator has one. No gradient reaches ``real_logits``. mean: how the inner ones are taken.
    """
    return _relativistic(real_logits.detach(), fake_logits, 0.0, mean)


def relativistic_discriminator_loss(
    real_logits: Tensor, fake_logits: Tensor, mean: BatchMean = Tensor.mean
) -> Tensor:
    """The discriminator's part, a scalar: 1/2 [ BCE(r - mean f, 1) + BCE(f - mean r, 0) ] (ESRGAN, eq. 1).

    ``fake_logits`` are of detached images. The means keep their gradients, as in RealSR and DeFlow: one
    backward pass through both terms. BasicSR detaches them, which is another gradient.
    """
    return _relativistic(real_logits, fake_logits, 1.0, mean)


def _relativistic(real_logits: Tensor, fake_logits: Tensor, real_label: float, mean: BatchMean) -> Tensor:
    real, fake = real_logits.float(), fake_logits.float()
    real_term = _label_loss(real - mean(fake), real_label)
    fake_term = _label_loss(fake - mean(real), 1.0 - real_label)
    return 0.5 * (real_term + fake_term)


def _label_loss(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


class Vgg19Features(nn.Module):
    """Features conv5_4 of VGG19, before activation, of RGB images in [0, 1]: B x 512 x H / 16 x W / 16.

    weights: torchvision's ImageNet weights, as tensors or as a .pth or .safetensors file. The network is
    frozen and stays in evaluation mode. Raises CheckpointError for weights of another network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path | Mapping[str, Tensor]) -> None:
        super().__init__()
        with torch.device("meta"):  # no start is drawn, for none is kept
            self.features = _vgg19()
        origin = str(weights) if isinstance(weights, Path) else "the VGG19 weights"
        tensors = read_trunk(weights) if isinstance(weights, Path) else weights
        state = {
            key: take(tensors, f"features.{key}", like, origin, VGG19_FILE)
            for key, like in self.features.state_dict().items()
        }
        known = {f"features.{key}" for key in state}
        refuse_others(tensors, lambda key: key in known or key.startswith("classifier."), origin, VGG19_FILE)
        # copies: the network must not change with tensors that a caller keeps
        state = {key: value.detach().clone() for key, value in state.items()}
        self.features.load_state_dict(state, strict=True, assign=True)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, images_bchw: Tensor) -> Tensor:
        return cast(Tensor, self.features((images_bchw - self.mean) / self.std))

    def loss(self, images_bchw: Tensor, targets_bchw: Tensor) -> Tensor:
        """Mean absolute difference of the features, a scalar; no gradient reaches ``targets_bchw``."""
        with torch.no_grad():
            targets = self(targets_bchw)
        return F.l1_loss(self(images_bchw).float(), targets.float())


def _vgg19() -> nn.Sequential:
    """The layers to conv5_4 at torchvision's places, without depending on torchvision."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in VGG19_PLAN:
        if outputs == 0:
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
        inputs = outputs
    return nn.Sequential(*layers[:-1])
