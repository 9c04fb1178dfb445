"""Registry of quality metrics: every name, list, help and check of the program derives from this list.

It imports no metric, so that the command line can list them without torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from deflow_cli.metrics.options import ScorerOptions

if TYPE_CHECKING:
    import torch

    from deflow_cli.metrics.base import Scorer


@dataclass(frozen=True)
class ScorerContext:
    """What building a scorer may need beside its options.

    names: of all metrics that were asked for. device: where scores are computed. locate(name, file, option):
    the path of foreign weights, either ``file``, which the user gave with ``option``, or those on this
    machine; raises CheckpointError where there are none.
    """

    names: Sequence[str]
    device: torch.device
    locate: Callable[[str, Path | None, str], Path]


Builder = Callable[[ScorerOptions, ScorerContext], "Scorer"]


@dataclass(frozen=True)
class MetricEntry:
    """A metric that users can name.

    builder: ``module:function``, a ``Builder``; it raises CheckpointError where figures or weights are not at
    hand. needs_reference: whether it compares with the true image. options: of the command line, which have
    an effect on it.
    """

    name: str
    builder: str
    needs_reference: bool = False
    options: tuple[str, ...] = ()

    def build(self, options: ScorerOptions, context: ScorerContext) -> Scorer:
        """The scorer. Raises CheckpointError."""
        module, _, function = self.builder.partition(":")
        return cast("Builder", getattr(importlib.import_module(module), function))(options, context)


# One line for each metric, in the order in which users see them.
QUALITY_METRICS = [
    MetricEntry("psnr", "deflow_cli.metrics.quality.fidelity:build_psnr", True, ("--crop-border", "--y")),
    MetricEntry("ssim", "deflow_cli.metrics.quality.fidelity:build_ssim", True, ("--crop-border", "--y")),
    MetricEntry("lpips", "deflow_cli.metrics.quality.lpips:build_lpips_alex", True, ("--lpips-weights",)),
    MetricEntry("lpips-vgg", "deflow_cli.metrics.quality.lpips:build_lpips_vgg", True, ("--lpips-weights",)),
    MetricEntry("niqe", "deflow_cli.metrics.quality.niqe:build_niqe", options=("--niqe-model",)),
    MetricEntry("brisque", "deflow_cli.metrics.quality.brisque:build_brisque", options=("--brisque-model",)),
    MetricEntry("piqe", "deflow_cli.metrics.quality.piqe:build_piqe"),
]


def metric_entries() -> dict[str, MetricEntry]:
    """The entries by name."""
    return {entry.name: entry for entry in QUALITY_METRICS}


def metrics_in_words() -> str:
    """All names in a list for a help text, with how those with references are asked for.

    >>> metrics_in_words()
    'psnr, ssim, lpips, lpips-vgg (with --ref), niqe, brisque, piqe'
    """
    with_reference = [entry.name for entry in QUALITY_METRICS if entry.needs_reference]
    without = [entry.name for entry in QUALITY_METRICS if not entry.needs_reference]
    return ", ".join([f"{', '.join(with_reference)} (with --ref)", *without])
