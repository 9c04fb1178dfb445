"""Records of a translation's training: figures of held-out crops, and preview pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deflow_cli.arrays import Pixels
from deflow_cli.config.translation import TranslationConfig
from deflow_cli.data.images.files import Image, write_image
from deflow_cli.metrics.noise.content import measure_content
from deflow_cli.models.translation.losses import eight_bits
from deflow_cli.reports.contact_sheet import contact_sheet, residual_view
from deflow_cli.runtime.seeding import derived_seed
from deflow_cli.training.domains import Domains
from deflow_cli.workflows.translation.data import TranslationBatch, TranslationSampler
from deflow_cli.workflows.translation.trainer import TranslationTrainer

HELD_OUT_CROPS = 8
SHOWN_CROPS = 4
LABELS = ("clean", "degraded", "residual x8", "real noisy")


class TranslationRecords:
    """Measures and draws a generator on held-out clean crops, which are the same throughout a run."""

    def __init__(
        self, domains: Domains, trainer: TranslationTrainer, config: TranslationConfig, seed: int, out: Path
    ) -> None:
        self.trainer, self.out = trainer, out
        # whatever the training's inputs are, clean pictures are what will be degraded
        recipe = replace(trainer.recipe, source="clean")
        sampler = TranslationSampler(
            domains.held_clean,
            domains.held_noisy,
            recipe,
            config,
            flips=False,
            seed=derived_seed(seed, "held-out"),
        )
        self.crops = sampler.batch(0, HELD_OUT_CROPS)

    @torch.no_grad()
    def degraded(self) -> list[Pixels]:
        """The held-out crops as the generator degrades them now, rounded to 8 bits."""
        batch = self._batch()
        return [rounded_pixels(self.trainer.generator(image[None])[0]) for image in batch.inputs]

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """What becomes of the content, and what the method itself measures.

        low_pass_psnr: in dB, of pictures blurred by sigma 8. shift_r, _g, _b: mean change of a channel, in
        grey levels (``metrics.noise.content``).
        """
        content = measure_content([rounded_pixels(t / 255) for t in self.crops.targets], self.degraded())
        figures = {"low_pass_psnr": min(content.low_pass_psnr, 99.0)}
        shifts = zip("rgb", content.colour_shift.tolist(), strict=True)
        figures |= {f"shift_{channel}": value for channel, value in shifts}
        return figures | self.trainer.held_out_figures(self._batch())

    def draw_preview(self, step: int) -> None:
        """A PNG with a row for each crop: clean, degraded, their difference, and an unrelated noisy one."""
        path = self.out / "previews" / f"{step:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = _preview_rows(self.crops, self.degraded()[:SHOWN_CROPS])
        write_image(path, Image(contact_sheet(rows, list(LABELS), scale=2)))

    def _batch(self) -> TranslationBatch:
        return self.crops.on(self.trainer.device)


def _preview_rows(crops: TranslationBatch, degraded: Sequence[Pixels]) -> list[list[Pixels]]:
    """A row of pictures for each degraded crop, as ``LABELS`` names them."""
    rows = []
    for index, noisy in enumerate(degraded):
        clean, real = (rounded_pixels(part[index] / 255) for part in (crops.targets, crops.reals))
        residual = (noisy.astype(np.float32) - clean.astype(np.float32)) / 255
        rows.append([clean, noisy, residual_view(residual), real])
    return rows


def rounded_pixels(image_chw: Tensor) -> Pixels:
    """A picture in [0, 1] as H x W x 3 uint8."""
    whole = (eight_bits(image_chw.float()) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(whole.permute(1, 2, 0).cpu().numpy())
