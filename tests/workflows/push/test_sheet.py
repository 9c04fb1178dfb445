"""The sheet of a card: whatever the scale of a network, its pictures can be seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.config.translation import ResidualGeneratorConfig
from deflow_cli.models.translation.generators import ResidualGenerator
from deflow_cli.workflows.push.sheet import translator_sheet


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_pictures_of_a_network_are_large_enough_to_be_seen(scale: int) -> None:
    sizes = ResidualGeneratorConfig(4, 1, scale)
    generator = ResidualGenerator(sizes, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        generator.tail.weight.zero_()
        generator.tail.bias.copy_(torch.tensor([9.0, -9.0, 9.0]))  # it makes everything magenta
    sheet = translator_sheet(generator)
    assert sheet.shape[0] > 3 * 128
    assert 3 * 128 < sheet.shape[1] < 3 * 180
    magenta = np.abs(sheet.astype(int) - (255, 0, 255)).max(axis=2) < 2
    seen = magenta[:, sheet.shape[1] // 3 : 2 * sheet.shape[1] // 3]
    assert seen.mean() > 0.7
    assert magenta[:, : sheet.shape[1] // 3].mean() < 0.05
