"""What a kernel must be beside fooling the discriminator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.data.images.resize import downsample
from deflow_cli.models.kernelgan.constraints import KernelConstraints, bicubic_difference, bicubic_half

CPU = torch.device("cpu")


def point(y, x, weight=1.0):
    kernel = torch.zeros(1, 13, 13)
    kernel[0, y, x] = weight
    return kernel


def test_bicubic_is_matlabs():
    pixels = np.random.default_rng(0).random((48, 64, 3))
    ours = bicubic_half(torch.from_numpy(pixels.transpose(2, 0, 1)[None]), rim=3)
    theirs = downsample(pixels, 2, "matlab-double")[3:-3, 3:-3].transpose(2, 0, 1)
    np.testing.assert_allclose(ours[0].numpy(), theirs, atol=2e-3)  # its taps are rounded to 1/256


def test_difference_of_bicubic_from_itself_is_none():
    crops = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bicubic_difference(bicubic_half(crops, 3), crops), torch.zeros(2))


def test_sum_and_boundaries():
    constraints = KernelConstraints(1, CPU)
    none = torch.zeros(1)
    assert float(constraints.loss(point(6, 6), none)) == pytest.approx(0, abs=1e-6)
    assert float(constraints.loss(point(6, 6, 0.75), none)) == pytest.approx(0.5 * 0.25)
    rim = 30 * (1 - np.exp(-36 * 2 / (2 * 13**2)))
    assert float(constraints.loss(point(0, 0), none)) == pytest.approx(0.5 * rim / 169, rel=1e-5)
    assert float(constraints.loss(point(2, 2), none)) == pytest.approx(0, abs=1e-6)


def test_schedule():
    """Bicubic until it is learned; then, at every 200th step, a hundredth; then centred and sparse."""
    constraints, unit = KernelConstraints(2, CPU), torch.ones(2)
    kernels = point(6, 6).expand(2, 13, 13)
    torch.testing.assert_close(constraints.loss(kernels, unit), torch.tensor([5.0, 5.0]))
    for step in range(1, 4):  # one is alike three times in a row, the other but twice
        constraints.after_step(step, torch.tensor([0.04, 0.04 if step != 2 else 0.05]))
    constraints.after_step(200, unit)
    torch.testing.assert_close(constraints.loss(kernels, unit), torch.tensor([0.05, 5.0]))
    constraints.after_step(400, unit)
    one, other = constraints.loss(kernels, torch.zeros(2)).tolist()
    sparse = (1 + 168 * 1e-12**0.2) / 169
    assert one == pytest.approx(0.25 + 5 * sparse, rel=1e-4)  # half a pixel off on both axes, and sparse
    assert other == pytest.approx(0, abs=1e-6)
