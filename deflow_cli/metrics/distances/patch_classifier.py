"""Patch classifier: the small network and fixed recipe that tell two sets of images apart by patches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN_CHANNELS = 16
TRAINING_BATCH = 64
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2

Draw = Callable[[int, list[int]], Tensor]
"""(side 0 or 1, indices of its images) -> one random patch of each, B x C x S x S."""


Prepare = Callable[[Tensor], Tensor]
"""Patches B x C x S x S -> what the first convolution sees, B x in_channels x S' x S', S' at least 9."""


class PatchClassifier(nn.Module):
    """Three convolutions over the prepared patch, mean and maximum over it, one logit (side 1 > 0)."""

    features = 4 * HIDDEN_CHANNELS

    def __init__(self, in_channels: int, prepare: Prepare, generator: torch.Generator) -> None:
        super().__init__()
        self._prepare = prepare
        self.first = nn.Conv2d(in_channels, HIDDEN_CHANNELS, 3)
        self.second = nn.Conv2d(HIDDEN_CHANNELS, 2 * HIDDEN_CHANNELS, 3, stride=2)
        self.third = nn.Conv2d(2 * HIDDEN_CHANNELS, 2 * HIDDEN_CHANNELS, 3)
        self.last = nn.Linear(self.features, 1)
        with torch.no_grad():
            for conv in (self.first, self.second, self.third):
                nn.init.kaiming_normal_(conv.weight, a=0.1, generator=generator)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    def pool(self, layers: Sequence[Tensor]) -> Tensor:
        """What the last layer sees of the patch, B x features."""
        return torch.cat([layers[-1].mean((2, 3)), layers[-1].amax((2, 3))], 1)

    def forward(self, patches_bchw: Tensor) -> Tensor:
        layers = [self._prepare(patches_bchw)]
        for conv in (self.first, self.second, self.third):
            layers.append(F.leaky_relu(conv(layers[-1]), 0.1))
        return self.last(self.pool(layers[1:]))[:, 0]


class NoiseClassifier(PatchClassifier):
    """The same network with log energies of all its layers for the mean and maximum.

    Noises differ in level and spectrum, which energies of filters tell; on the log scale, each feature
    brought to mean 0 and std 1, a difference of level is found in a few steps.
    """

    features = 5 * HIDDEN_CHANNELS

    def __init__(self, in_channels: int, prepare: Prepare, generator: torch.Generator) -> None:
        super().__init__(in_channels, prepare, generator)
        self.standardise = nn.BatchNorm1d(
            self.features, momentum=0.2, affine=False
        )  # keeps up with few steps

    def pool(self, layers: Sequence[Tensor]) -> Tensor:
        energies = torch.cat([layer.square().mean((2, 3)) for layer in layers], 1)
        return self.standardise(torch.log(energies + 1e-4))


def train(
    model: PatchClassifier, counts: tuple[int, int], draw: Draw, steps: int, generator: torch.Generator
) -> PatchClassifier:
    """Train on batches of 64, half from each side, images drawn evenly: AdamW, one cycle, cross-entropy."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=LEARNING_RATE, total_steps=max(steps, 2))
    model.train()
    labels = torch.cat([torch.zeros(TRAINING_BATCH // 2), torch.ones(TRAINING_BATCH // 2)])
    for _ in range(steps):
        halves = []
        for side, count in enumerate(counts):
            which = torch.randint(count, (TRAINING_BATCH // 2,), generator=generator).tolist()
            halves.append(draw(side, which))
        loss = F.binary_cross_entropy_with_logits(model(torch.cat(halves)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model


def share_right(model: PatchClassifier, patches: Tensor, side: int) -> float:
    """Share of patches of one side told right."""
    model.eval()
    with torch.no_grad():
        return float(((model(patches) > 0) == bool(side)).float().mean())


def flip(patch: Tensor, flip_y: float, flip_x: float) -> Tensor:
    """Flip C x S x S along either axis where its draw from [0, 1) is below one half."""
    turned = [axis for axis, draw in ((1, flip_y), (2, flip_x)) if draw < 0.5]
    return patch.flip(turned) if turned else patch


def balanced_accuracy(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Accuracy and its standard error over images, from each image's share of patches told right."""
    sides = [torch.tensor(side, dtype=torch.float64) for side in (first, second)]
    accuracy = sum(float(side.mean()) for side in sides) / 2
    # the spread is known badly from few images: it is kept from vanishing by one pretended image at chance
    padded = [torch.cat([side, torch.full((1,), 0.5, dtype=torch.float64)]) for side in sides]
    return accuracy, math.sqrt(sum(float(side.var()) / len(side) for side in padded)) / 2
