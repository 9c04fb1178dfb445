"""Validation of an SRFlow: bits per dimension and scores of samples on held-out pairs, and previews."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deflow_cli.data.images.files import Image, to_pixels, write_image
from deflow_cli.data.images.resize import downsample
from deflow_cli.data.pairs.records import Pair
from deflow_cli.inference.positional_noise import LatentNoise, PositionalNoise
from deflow_cli.inference.super_resolving import SampleRequest, SuperResolver
from deflow_cli.metrics.base import Metric, Scorer
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.models.srflow.objective import EIGHT_BIT_STEP
from deflow_cli.reports.contact_sheet import contact_sheet
from deflow_cli.runtime.progress import Reporter, Silent
from deflow_cli.workflows.restorer.validation import (
    PREVIEW_PAIRS,
    Measured,
    Validation,
    choose_scorers,
    is_better,
    middle,
)

SHOWN_TEMPERATURES = (0.0, 0.5, 0.8, 1.0)  # of a preview
BITS = "bits"  # the name under which held-out bits per dimension are recorded


class SpaceValidation:
    """Held-out pairs, cut to sides that the flow takes as they are."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        scorers: Sequence[Scorer],
        model: SRFlow,
        temperature: float,
    ) -> None:
        multiple, scale = model.size_multiple, model.scale
        self.pairs = [_cut(pair, multiple, scale) for pair in pairs]
        self.model, self.temperature = model, temperature
        self.device = next(model.parameters()).device
        self._images = Validation(self.pairs, scorers, self.device)

    def measure(self) -> Measured:
        """Bits per dimension, LR-PSNR, and the scorers' means over one sample of each pair."""
        sampler = SuperResolver(self.model, self.device, tile=0)
        samples: list[Tensor] = []

        def sampled(x: Tensor) -> Tensor:
            samples.append(self._sample(sampler, x, self.temperature))
            return samples[-1]

        measured = self._images.measure(sampled)
        figures = {BITS: self._bits(), "lr_psnr": self._lr_psnr(samples)}
        return Measured(measured.scores | figures, measured.drift)

    def measure_input(self) -> Measured:
        """Scores of the small pictures themselves, enlarged bicubically."""
        return self._images.measure_input()

    def preview(self, path: Path) -> None:
        """Write a PNG: a row per pair with the enlarged x, samples at several temperatures, and the truth."""
        sampler = SuperResolver(self.model, self.device, tile=0)
        rows, names = [], []
        for pair in self.pairs[:PREVIEW_PAIRS]:
            x, scale = _tensor(pair.lq), self.model.scale
            samples = [to_pixels(self._sample(sampler, x, temperature)) for temperature in SHOWN_TEMPERATURES]
            small = pair.lq.repeat(scale, axis=0).repeat(scale, axis=1)
            rows.append([middle(pixels) for pixels in (small, *samples, pair.gt)])
            names.append(Path(pair.key).name[:16])
        titles = ["input", *(f"T = {temperature:g}" for temperature in SHOWN_TEMPERATURES), "truth"]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, Image(contact_sheet(rows, titles, names, scale=2)))

    def _sample(self, sampler: SuperResolver, x_bchw: Tensor, temperature: float) -> Tensor:
        """One sample, of the same latents at every validation."""
        found: list[Tensor] = []
        noise = [LatentNoise(0, "held-out")]
        sampler.restore(
            x_bchw, SampleRequest(noise, [temperature]), lambda index, window, piece: found.append(piece)
        )
        return found[0]

    @torch.no_grad()
    def _bits(self) -> float:
        """Mean over pairs, of 8-bit images with their dequantisation."""
        srflow, values = self.model.config.srflow, []
        levels = srflow.noise_levels if srflow.noise == "uniform" else 256
        step = 1 / levels if srflow.noise == "uniform" else EIGHT_BIT_STEP
        for pair in self.pairs:
            y, x = _tensor(pair.gt).to(self.device), _tensor(pair.lq).to(self.device)
            noise = PositionalNoise(0, "held-out").uniform(
                "dequantisation", y.shape[1], 0, 0, y.shape[-2], y.shape[-1], self.device
            )
            log_prob = self.model.log_prob(y + step * noise, x, self.model.prepare(x))
            values.append(float(self.model.bits_per_dim(log_prob, y[0].numel(), levels)))
        return float(np.mean(values))

    def _lr_psnr(self, samples: Sequence[Tensor]) -> float:
        """PSNR of each pair's x and its 8-bit sample made small again by MATLAB's bicubic."""
        values = []
        for pair, sample in zip(self.pairs, samples, strict=True):
            small = downsample(to_pixels(sample), self.model.scale, "matlab")
            error = np.square(small.astype(np.float64) - pair.lq).mean()
            values.append(10 * np.log10(255**2 / max(error, 1e-6)))
        return float(np.mean(values))


class Selection:
    """What chooses the best weights: a metric of the samples, or the held-out bits per dimension."""

    def __init__(self, name: str, metric: Metric | None) -> None:
        self.name, self._metric = name, metric

    def is_better(self, value: float, best: float) -> bool:
        return value < best if self._metric is None else is_better(self._metric, value, best)


def choose_space_scorers(
    select: str, device: torch.device, reporter: Reporter, lpips_file: str = ""
) -> tuple[list[Scorer], Selection]:
    """PSNR, SSIM and what chooses the best; ``auto`` is LPIPS where it can be had, else bits per dimension.

    Raises CheckpointError where the metric asked for cannot be had.
    """
    if select == BITS:
        scorers, _ = choose_scorers("psnr", device, Silent())
        reporter.note("the best is chosen by bits per dimension on held-out pairs")
        return scorers, Selection(BITS, None)
    scorers, metric = choose_scorers(select, device, Silent(), lpips_file)
    if select == "auto" and metric.name != "lpips":
        reporter.note("the best is chosen by bits per dimension on held-out pairs, for LPIPS cannot be had")
        return scorers, Selection(BITS, None)
    reporter.note(f"the best is chosen by {metric.name} of samples of held-out pairs")
    return scorers, Selection(metric.name, metric)


def _cut(pair: Pair, multiple: int, scale: int) -> Pair:
    """A pair whose small sides are multiples of the model's."""
    height, width = (max(side // multiple, 1) * multiple for side in pair.lq.shape[:2])
    return Pair(pair.key, pair.gt[: height * scale, : width * scale], pair.lq[:height, :width])


def _tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
