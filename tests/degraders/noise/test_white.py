"""White noise has its std, and neither pixels nor channels are correlated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.noise.white import WhiteNoiseDegrader


def test_white_noise_has_its_std_everywhere():
    image = torch.full((1, 3, 300, 300), 0.5)
    noise = (WhiteNoiseDegrader(0.04).degrade(image, [Draw(0, "a")]) - image)[0]
    assert noise.std(dim=(1, 2)).numpy() == pytest.approx(0.04, rel=0.02)
    assert abs(np.corrcoef(noise[0, :, 1:].ravel(), noise[0, :, :-1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.02
