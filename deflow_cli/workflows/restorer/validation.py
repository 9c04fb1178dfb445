"""Validation of a restorer: scores on held-out pairs, and what chooses the best of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deflow_cli.data.images.files import Image, write_image
from deflow_cli.data.pairs.records import Pair
from deflow_cli.errors import CheckpointError, ConfigError, DataError
from deflow_cli.metrics.base import Metric, Scorer
from deflow_cli.metrics.options import ScorerOptions
from deflow_cli.reports.contact_sheet import contact_sheet
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.score.scorers import build_scorers

Restore = Callable[[Tensor], Tensor]
"""Takes degraded images, float32 in [0, 1], B C h w, and gives restored ones."""

PREVIEW_PAIRS = 4  # pairs of a preview
SHOWN_SIDE = 128  # px of gt


@dataclass(frozen=True)
class Measured:
    """Mean scores by metric, and by how much restored images are brighter than clean ones.

    drift: per channel, of the means over all pixels, [0, 1] scale.
    """

    scores: dict[str, float]
    drift: tuple[float, float, float]


def choose_scorers(
    select: str, device: torch.device, reporter: Reporter, lpips_file: str = ""
) -> tuple[list[Scorer], Metric]:
    """PSNR, SSIM and what chooses the best; ``auto`` is LPIPS where it can be had, else PSNR, and says so.

    lpips_file: AlexNet's weights; where they are given, ``auto`` is LPIPS. Raises CheckpointError where the
    metric asked for cannot be had, ConfigError for weights that it does not use.
    """
    names = ["psnr", "ssim"]
    if lpips_file and select == "auto":
        select = "lpips"
    wanted = "lpips" if select == "auto" else select
    if lpips_file and wanted != "lpips":
        raise ConfigError(
            f"{lpips_file}: --lpips-weights is nothing to the choice by {wanted}",
            next_step="leave it out, or pass --select lpips",
        )
    options = ScorerOptions(lpips_weights=Path(lpips_file) if lpips_file else None)
    if wanted not in names:
        names.append(wanted)
    scorers, missing = build_scorers(names, options, device)
    if missing:
        lost = missing[0]
        if select != "auto":
            raise CheckpointError(lost.message, next_step=f"{lost.next_step}, or pass --select psnr")
        reporter.note(f"the best is chosen by psnr, for LPIPS cannot be had: {lost.message}")
        wanted = "psnr"
    else:
        reporter.note(f"the best is chosen by {wanted} on held-out pairs")
    return scorers, next(s.metric for s in scorers if s.metric.name == wanted)


class Validation:
    """Held-out pairs, looked at one by one as 8-bit images."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        scorers: Sequence[Scorer],
        device: torch.device,
        precision: torch.dtype | None = None,
    ) -> None:
        assert pairs
        self.pairs, self.scorers, self.device, self.precision = (
            tuple(pairs),
            tuple(scorers),
            device,
            precision,
        )

    def measure(self, model: Restore) -> Measured:
        """Scores of a network in evaluation mode. Raises DataError where a metric fits no pair."""
        return self._measured([self._restored(model, pair) for pair in self.pairs])

    def measure_input(self) -> Measured:
        """Scores of the degraded pictures themselves, enlarged bicubically."""
        return self._measured([self._enlarged(pair) for pair in self.pairs])

    def preview(self, path: Path, model: Restore) -> None:
        """Write a PNG: a row per pair with its degraded, restored and clean middle."""
        rows, names = [], []
        for pair in self.pairs[:PREVIEW_PAIRS]:
            scale = pair.gt.shape[0] // pair.lq.shape[0]
            restored = self._restored(model, pair)[0].permute(1, 2, 0).cpu().numpy()
            degraded = pair.lq.repeat(scale, axis=0).repeat(scale, axis=1)
            rows.append([middle(pixels) for pixels in (degraded, restored, pair.gt)])
            names.append(Path(pair.key).name[:16])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, Image(contact_sheet(rows, ["degraded", "restored", "clean"], names, scale=2)))

    @torch.no_grad()
    def _restored(self, model: Restore, pair: Pair) -> Tensor:
        lq = _tensor(pair.lq, self.device).float() / 255
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
            restored = model(lq)
        return _pixels(restored.float() * 255)

    def _enlarged(self, pair: Pair) -> Tensor:
        lq = _tensor(pair.lq, self.device)
        if pair.lq.shape == pair.gt.shape:
            return lq
        return _pixels(F.interpolate(lq.float(), size=pair.gt.shape[:2], mode="bicubic"))

    def _measured(self, images: Sequence[Tensor]) -> Measured:
        references = [_tensor(pair.gt, self.device) for pair in self.pairs]
        scores = {}
        for scorer in self.scorers:
            metric = scorer.metric
            found = [
                scorer(image, reference if metric.needs_reference else None)[0]
                for image, reference in zip(images, references, strict=True)
            ]
            values = [score.value for score in found if not math.isnan(score.value)]
            if not values:
                raise DataError(
                    f"{metric.name} cannot be had of the held-out pairs: {found[0].reason}",
                    next_step="choose by another metric, such as --select psnr, or validate larger images",
                )
            scores[metric.name] = float(np.mean(values))
        differences = [
            (image.double() - reference.double()).mean((0, 2, 3)) / 255
            for image, reference in zip(images, references, strict=True)
        ]
        red, green, blue = torch.stack(differences).mean(0).tolist()
        return Measured(scores, (red, green, blue))


def is_better(metric: Metric, value: float, best: float) -> bool:
    return value > best if metric.higher_is_better else value < best


def _tensor(pixels: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].to(device)


def _pixels(values_bchw: Tensor) -> Tensor:
    """uint8 of values on the 0..255 scale, halves rounded up, as images are written. NaN becomes 0."""
    return torch.floor(torch.nan_to_num(values_bchw).clamp(0, 255) + 0.5).clamp(0, 255).to(torch.uint8)


def middle(pixels: np.ndarray) -> np.ndarray:
    """The middle of a picture, at most ``SHOWN_SIDE`` px a side."""
    top, left = (max(side - SHOWN_SIDE, 0) // 2 for side in pixels.shape[:2])
    return pixels[top : top + SHOWN_SIDE, left : left + SHOWN_SIDE]
