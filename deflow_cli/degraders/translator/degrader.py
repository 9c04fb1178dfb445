"""A network of DSGAN, DASR or CycleGAN as a degrader."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deflow_cli.degraders.base import Draw, check_draws
from deflow_cli.degraders.translator.tiled import ImageTranslator
from deflow_cli.models.translation.generators import Generator


class TranslatorDegrader:
    """Degrades each picture in the one way that its network knows: draws make no difference.

    With a scale above 1 it takes the large picture, and the result is so many times smaller. tile: side in
    px; None: chosen by memory, 0: none.
    """

    def __init__(
        self, generator: Generator, device: torch.device | str = "cpu", tile: int | None = None
    ) -> None:
        self.translator = ImageTranslator(generator, device, tile)

    def degrade(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        check_draws(image_bchw, draws)
        return self.translator(image_bchw)
