"""DASR: its down-sampling network, De-Resnet (Wei et al., CVPR 2021, arXiv 2004.01178)."""

from __future__ import annotations

import torch

from deflow_cli.config.translation import DasrRunConfig
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.translation.data import CropRecipe
from deflow_cli.workflows.translation.frequency import FrequencyTrainer, load_lpips


class DasrTrainer(FrequencyTrainer):
    """Large clean pictures become small degraded ones, held against what MATLAB's bicubic rule makes of them.

    A crop of a clean picture is the input; a part, of the small size, of an equally large crop of an
    unrelated noisy picture is what real noise looks like.
    """

    name = "dasr"
    recipe = CropRecipe(source="clean", takes_large=True)

    @classmethod
    def build(cls, config: DasrRunConfig, device: torch.device, reporter: Reporter) -> DasrTrainer:
        section = config.dasr
        return cls(config, section, section.generator, load_lpips(section, device, reporter), device)
