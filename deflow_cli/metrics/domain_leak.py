"""Domain leak: how well clean and noisy are told apart by the conditioning image h alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ShapeError

PATCH = 18  # h pixels per side the classifier sees at once
SMALLEST = 11  # below, the convolutions leave nothing
_CHANNELS = 16
_BATCH = 64
_HELD_PATCHES = 16  # per held-out image
_DETAIL_SCALE = 16.0  # brings detail of some grey levels to the order of 1


@dataclass(frozen=True)
class Leak:
    """Balanced accuracy on held-out images, 0.5 (nothing betrays the domain) to 1.

    standard_error: over images, not patches, which are not independent. per_image_clean and
    per_image_noisy: share of an image's patches told right.
    """

    accuracy: float
    standard_error: float
    per_image_clean: tuple[float, ...] = ()
    per_image_noisy: tuple[float, ...] = ()
    chance: float = 0.5

    def exceeds_chance(self, margin: float, errors: float = 2.0) -> bool:
        """Whether the accuracy is above chance by ``margin`` and by ``errors`` standard errors."""
        return self.accuracy > self.chance + max(margin, errors * self.standard_error)


def pool_leaks(leaks: Sequence[Leak]) -> Leak:
    """One result from those of disjoint sets of held-out images."""
    clean = tuple(share for leak in leaks for share in leak.per_image_clean)
    noisy = tuple(share for leak in leaks for share in leak.per_image_noisy)
    return _summary(clean, noisy)


def _summary(clean: tuple[float, ...], noisy: tuple[float, ...]) -> Leak:
    sides = [torch.tensor(side, dtype=torch.float64) for side in (clean, noisy)]
    accuracy = sum(float(side.mean()) for side in sides) / 2
    # the spread is known badly from few images: it is kept from vanishing by one pretended image at chance
    padded = [torch.cat([side, torch.full((1,), 0.5, dtype=torch.float64)]) for side in sides]
    error = math.sqrt(sum(float(side.var()) / len(side) for side in padded)) / 2
    return Leak(accuracy, error, clean, noisy)


class _Classifier(nn.Module):
    """Three convolutions over h and its detail, mean and maximum over the patch, one logit (noisy > 0)."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.first = nn.Conv2d(6, _CHANNELS, 3)
        self.second = nn.Conv2d(_CHANNELS, 2 * _CHANNELS, 3, stride=2)
        self.third = nn.Conv2d(2 * _CHANNELS, 2 * _CHANNELS, 3)
        self.last = nn.Linear(4 * _CHANNELS, 1)
        with torch.no_grad():
            for conv in (self.first, self.second, self.third):
                nn.init.kaiming_normal_(conv.weight, a=0.1, generator=generator)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    def forward(self, h_bchw: Tensor) -> Tensor:
        inner = h_bchw[:, :, 1:-1, 1:-1]
        x = torch.cat([inner - 0.5, (inner - F.avg_pool2d(h_bchw, 3, 1)) * _DETAIL_SCALE], 1)
        for conv in (self.first, self.second, self.third):
            x = F.leaky_relu(conv(x), 0.1)
        return self.last(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))[:, 0]


def _patches(
    images: Sequence[Tensor], which: Sequence[int], size: int, h_noise: float, generator: torch.Generator
) -> Tensor:
    """One noisy random patch, flipped, of each named image: len(which) x 3 x size x size."""
    draws = torch.rand(len(which), 4, generator=generator).tolist()
    out = torch.empty(len(which), 3, size, size)
    for i, (index, (u, v, flip_y, flip_x)) in enumerate(zip(which, draws, strict=True)):
        image = images[index]
        y, x = int(u * (image.shape[1] - size + 1)), int(v * (image.shape[2] - size + 1))
        patch = image[:, y : y + size, x : x + size]
        turned = [axis for axis, draw in ((1, flip_y), (2, flip_x)) if draw < 0.5]
        out[i] = patch.flip(turned) if turned else patch
    return out + h_noise * torch.randn(out.shape, generator=generator)


def _train(
    sets: tuple[Sequence[Tensor], Sequence[Tensor]],
    size: int,
    h_noise: float,
    steps: int,
    generator: torch.Generator,
) -> _Classifier:
    model = _Classifier(generator)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=max(steps, 2))
    labels = torch.cat([torch.zeros(_BATCH // 2), torch.ones(_BATCH // 2)])
    for _ in range(steps):
        halves = []
        for images in sets:
            which = torch.randint(len(images), (_BATCH // 2,), generator=generator).tolist()
            halves.append(_patches(images, which, size, h_noise, generator))
        loss = F.binary_cross_entropy_with_logits(model(torch.cat(halves)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model


def domain_leak(
    clean_h: Sequence[Tensor],
    noisy_h: Sequence[Tensor],
    held_clean_h: Sequence[Tensor],
    held_noisy_h: Sequence[Tensor],
    *,
    seed: int,
    steps: int,
    h_noise: float = 0.0,
) -> Leak:
    """Train a small classifier on patches of h and measure it on the held-out images.

    Images: 3 x H x W float32 in [0, 1], sizes may differ; patches are 18 px or the smallest side.
    The noise of std ``h_noise`` is drawn anew for every patch, as the model draws it. Deterministic given the
    seed and the thread count. Raises ShapeError if an image is below 11 px.
    """
    everything = [*clean_h, *noisy_h, *held_clean_h, *held_noisy_h]
    assert min(len(clean_h), len(noisy_h), len(held_clean_h), len(held_noisy_h)) > 0
    size = min(PATCH, *(min(image.shape[1:]) for image in everything))
    if size < SMALLEST:
        raise ShapeError(f"h is {size} px at its smallest; the domain-leak test needs {SMALLEST} px")
    generator = torch.Generator().manual_seed(seed)
    model = _train((clean_h, noisy_h), size, h_noise, steps, generator)
    shares: list[tuple[float, ...]] = []
    with torch.no_grad():
        for label, images in enumerate((held_clean_h, held_noisy_h)):
            own = []
            for index in range(len(images)):
                patches = _patches(images, [index] * _HELD_PATCHES, size, h_noise, generator)
                own.append(float(((model(patches) > 0) == bool(label)).float().mean()))
            shares.append(tuple(own))
    return _summary(shares[0], shares[1])
