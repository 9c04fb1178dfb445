"""Encodings: what the flow computes of a picture once, kept on the device for any number of degradations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.flow.degrader import FlowDegrader
from deflow_cli.inference.sampling import Encoding
from deflow_cli.layers.invertible.coupling import StepCondition


class Encodings:
    """Pictures of one size, encoded: ``places`` of them, in memory that is taken once.

    Picture n lies at n % places until another comes there. A degradation depends on the pictures that were
    encoded together, on those degraded together and on their draws, not on what else is or was kept.
    """

    def __init__(self, degrader: FlowDegrader, places: int) -> None:
        assert places >= 1
        self._degrader, self._translator = degrader, degrader.translator
        self._numbers = [-1] * places
        self._size = (0, 0)
        self._kept: list[Tensor] = []  # places H W C: latents, then the conditions in the layers' order
        self._conditioned: list[bool] = []

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self._numbers[number % len(self._numbers)] == number

    @torch.no_grad()
    def keep(self, numbers: Sequence[int], image_bchw: Tensor, keys: Sequence[str]) -> None:
        """Encode pictures (B x 3 x H x W, float32 in [0, 1]) and keep them, whatever was in their places.

        keys: as of their draws; the noise of dequantisation and on h belongs to them.
        """
        job = self._degrader.job([Draw(0, key, temperature=0.0) for key in keys])
        encoding = self._translator.encode(image_bchw, job)
        parts = _parts(encoding)
        if not self._kept:
            self._size = (image_bchw.shape[-2], image_bchw.shape[-1])
            self._conditioned = [condition is not None for condition in encoding.conditions]
            count = len(self._numbers)
            self._kept = [part.new_empty(count, *part.permute(0, 2, 3, 1).shape[1:]) for part in parts]
        assert self._size == image_bchw.shape[-2:]
        places = self._places(numbers)
        for kept, part in zip(self._kept, parts, strict=True):
            kept.index_copy_(0, places, part.permute(0, 2, 3, 1))
        for number in numbers:
            self._numbers[number % len(self._numbers)] = number

    @torch.no_grad()
    def degrade(self, numbers: Sequence[int], draws: Sequence[Draw]) -> Tensor:
        """Degrade kept pictures by a decoding alone: B x 3 x H x W in [0, 1], on the device of the model."""
        assert all(number in self for number in numbers)
        places = self._places(numbers)
        # channels last, as the nets have them
        parts = iter([kept.index_select(0, places).permute(0, 3, 1, 2) for kept in self._kept])
        latents = [next(parts) for _ in self._translator.model.flow.latent_plan]
        conditions = [StepCondition(next(parts), next(parts)) if has else None for has in self._conditioned]
        y = self._translator.sample(Encoding(latents, conditions), self._size, self._degrader.job(draws))
        return y.clamp(0, 1)

    def _places(self, numbers: Sequence[int]) -> Tensor:
        places = [number % len(self._numbers) for number in numbers]
        return torch.tensor(places, device=self._translator.device)


@torch.no_grad()
def bytes_of_encoding(degrader: FlowDegrader, height: int, width: int) -> int:
    """Bytes that are kept of one picture."""
    blank = torch.zeros(1, 3, height, width)
    encoding = degrader.translator.encode(blank, degrader.job([Draw(0, "blank", temperature=0.0)]))
    return sum(part.numel() * part.element_size() for part in _parts(encoding))


def _parts(encoding: Encoding) -> list[Tensor]:
    conditions = [condition for condition in encoding.conditions if condition is not None]
    return [*encoding.latents, *(part for condition in conditions for part in condition)]
