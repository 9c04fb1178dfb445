"""A fitted DeFlow as a degrader."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.degraders.base import Draw, check_draws
from deflow_cli.degraders.flow.compression import SampleCompression
from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job, draw_components
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution
from deflow_cli.runtime.cuda_graphs import GraphedFunction


class FlowDegrader:
    """Encodes the clean picture, shifts its latents and decodes them (DeFlow, CVPR 2021, eq. 7).

    tile: side of the tiles in px; None: chosen by memory, 0: none. compression: applied to each whole picture
    last; None: none.
    """

    def __init__(
        self,
        model: DeFlow,
        device: torch.device | str = "cpu",
        tile: int | None = None,
        compression: SampleCompression | None = None,
    ) -> None:
        self._compression = compression
        self.translator = Translator(model, device, tile, GraphedFunction)
        self._shift = ShiftDistribution(model.prior)

    def job(self, draws: Sequence[Draw]) -> Job:
        """What the translator is to do for these draws; each draw is sample 0 of its image in the job."""
        noises = [_SampleNoise(draw) for draw in draws]
        components = [draw_components(self._shift, d.seed, d.key, d.sample + 1)[d.sample :] for d in draws]
        return Job(self._shift, noises, components, [draw.temperature for draw in draws])

    def degrade(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        check_draws(image_bchw, draws)
        result = torch.empty(image_bchw.shape, dtype=torch.float32, device=image_bchw.device)

        def write(_: int, window: Window, piece: Tensor) -> None:
            result[(..., *window.slices)] = piece.clamp(0, 1).to(result.device)

        self.translator.translate(image_bchw.float(), self.job(draws), [0], write)
        return self.compressed(result, draws)

    def compressed(self, degraded_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        """The last step: whole degraded pictures, B x 3 x H x W in [0, 1], as the model's record has them."""
        return degraded_bchw if self._compression is None else self._compression(degraded_bchw, draws)


class _SampleNoise(ImageNoise):
    """The noise of one sample of an image, whichever number the sample has in the job."""

    def __init__(self, draw: Draw) -> None:
        super().__init__(draw.seed, draw.key)
        self._sample = draw.sample

    def latent(
        self,
        index: int,
        sample: int,
        channels: int,
        window: Window,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        return super().latent(index, self._sample, channels, window, device)

    def grain(self, sample: int, channels: int, window: Window, device: torch.device | str = "cpu") -> Tensor:
        return super().grain(self._sample, channels, window, device)

    def level(self, sample: int) -> float:
        return super().level(self._sample)
