"""DSGAN: the degradation network of FSSR (Fritsche et al., ICCVW 2019, arXiv 1911.07850)."""

from __future__ import annotations

import torch

from deflow_cli.config.translation import DsganRunConfig
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.translation.data import CropRecipe
from deflow_cli.workflows.translation.frequency import FrequencyTrainer, load_lpips


class DsganTrainer(FrequencyTrainer):
    """Trained on noisy pictures alone: made small they are clean, and the network gives them noise again.

    A crop of a noisy picture, made small by MATLAB's bicubic rule, is the input; a part of the same crop at
    its full size is what real noise looks like.
    """

    name = "dsgan"
    recipe = CropRecipe(source="noisy")

    @classmethod
    def build(cls, config: DsganRunConfig, device: torch.device, reporter: Reporter) -> DsganTrainer:
        section = config.dsgan
        return cls(config, section, section.generator, load_lpips(section, device, reporter), device)
