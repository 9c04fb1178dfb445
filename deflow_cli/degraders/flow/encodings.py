"""Encodings: what a flow computes from a clean picture, stored on the device for several degradations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.flow.degrader import FlowDegrader
from deflow_cli.inference.windows import Encoding
from deflow_cli.layers.invertible.coupling import StepCondition


class Encodings:
    """A store of ``places`` encoded pictures of one size, whose memory is allocated once.

    Picture n lies at place n % places, until another picture is encoded to that place. Rounding makes a
    degradation depend on which pictures were encoded in one batch and which are degraded in one batch, but
    not on what else the store holds or held.
    """

    def __init__(self, degrader: FlowDegrader, places: int) -> None:
        assert places >= 1
        self._degrader, self._translator = degrader, degrader.translator
        self._numbers = [-1] * places
        self._size = (0, 0)
        self._store: list[
            Tensor
        ] = []  # places x H x W x C: the latents, the conditions of the layers, the gain
        self._conditioned: list[bool] = []

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self._numbers[number % len(self._numbers)] == number

    @torch.no_grad()
    def keep(self, numbers: Sequence[int], image_bchw: Tensor, keys: Sequence[str]) -> None:
        """Encode pictures (B x 3 x H x W, float32 in [0, 1]) and store them, in place of earlier ones.

        keys: those of their draws; the noise of dequantization and the noise on h follow from them.
        """
        job = self._degrader.job([Draw(0, key) for key in keys])
        encoding = self._translator.encode(image_bchw, job)
        parts = _parts(encoding)
        if not self._store:
            self._size = (image_bchw.shape[-2], image_bchw.shape[-1])
            self._conditioned = [condition is not None for condition in encoding.conditions]
            count = len(self._numbers)
            self._store = [part.new_empty(count, *part.permute(0, 2, 3, 1).shape[1:]) for part in parts]
        assert self._size == image_bchw.shape[-2:]
        places = self._places(numbers)
        for stored, part in zip(self._store, parts, strict=True):
            stored.index_copy_(0, places, part.permute(0, 2, 3, 1))
        for number in numbers:
            self._numbers[number % len(self._numbers)] = number

    @torch.no_grad()
    def degrade(self, numbers: Sequence[int], draws: Sequence[Draw]) -> Tensor:
        """Degrade stored pictures by decoding alone: B x 3 x H x W in [0, 1], on the model's device."""
        assert all(number in self for number in numbers)
        places = self._places(numbers)
        # The store is channels-last, as the layers' networks compute.
        parts = iter([stored.index_select(0, places).permute(0, 3, 1, 2) for stored in self._store])
        latents = [next(parts) for _ in self._translator.model.flow.latent_plan]
        conditions = [StepCondition(next(parts), next(parts)) if has else None for has in self._conditioned]
        encoding = Encoding(latents, conditions, next(parts, None))
        y = self._translator.sample(encoding, self._size, self._degrader.job(draws))
        return self._degrader.compressed(y.clamp(0, 1), draws)

    def _places(self, numbers: Sequence[int]) -> Tensor:
        places = [number % len(self._numbers) for number in numbers]
        return torch.tensor(places, device=self._translator.device)


@torch.no_grad()
def bytes_of_encoding(degrader: FlowDegrader, height: int, width: int) -> int:
    """Bytes that the encoding of one picture takes in the store."""
    blank = torch.zeros(1, 3, height, width)
    encoding = degrader.translator.encode(blank, degrader.job([Draw(0, "blank")]))
    return sum(part.numel() * part.element_size() for part in _parts(encoding))


def _parts(encoding: Encoding) -> list[Tensor]:
    conditions = [condition for condition in encoding.conditions if condition is not None]
    gain = [] if encoding.gain is None else [encoding.gain]
    return [*encoding.latents, *(part for condition in conditions for part in condition), *gain]
