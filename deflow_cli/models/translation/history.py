"""History: generated pictures that a discriminator sees again (Shrivastava et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ImageHistory(nn.Module):
    """At most so many generated pictures, which belong to a training's state.

    A new picture is kept while there is room. Then, with probability 1/2, it takes the place of a kept one
    drawn at random, which is shown instead; else it is shown itself.
    """

    images: Tensor
    count: Tensor

    def __init__(self, capacity: int, side: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.register_buffer("images", torch.zeros(capacity, 3, side, side))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def exchange(
        self, fakes_bchw: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, list[tuple[int, Tensor]]]:
        """The pictures to show, and (place, picture) of those to keep by ``commit``. Nothing changes yet."""
        shown, kept = [], []
        held = {place: self.images[place] for place in range(int(self.count))}
        for fake in fakes_bchw.detach():
            swaps = bool(torch.rand((), generator=generator) < 0.5)
            place = int(torch.randint(max(self.capacity, 1), (), generator=generator))
            if len(held) < self.capacity:
                place = len(held)
                shown.append(fake)
            elif swaps and self.capacity:
                shown.append(held[place].clone())
            else:
                shown.append(fake)
                continue
            held[place] = fake
            kept.append((place, fake))
        return torch.stack(shown), kept

    @torch.no_grad()
    def commit(self, kept: Sequence[tuple[int, Tensor]], finite: Tensor) -> None:
        """Keep the pictures where ``finite`` (0-dim bool) holds; else nothing changes."""
        for place, image in kept:
            self.images[place] = torch.where(finite, image, self.images[place])
        places = [place for place, _ in kept]
        if places:
            grown = self.count.clamp(min=max(places) + 1)
            self.count.copy_(torch.where(finite, grown, self.count))
