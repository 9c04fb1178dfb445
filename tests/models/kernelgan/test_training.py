"""Steps of the training: pictures side by side are as alone, and the generator comes near bicubic first."""

from __future__ import annotations

import torch

from deflow_cli.models.kernelgan.training import LARGE_CROP, SMALL_CROP, KernelGANTraining

CPU = torch.device("cpu")


def picture(count, side):
    smooth = torch.rand(count, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(smooth, size=(side, side), mode="bicubic") * 2 - 1


def trained(seeds, images, steps):
    training = KernelGANTraining(seeds, CPU)
    for _ in range(steps):
        losses = training.step(images, images[..., :SMALL_CROP, :SMALL_CROP])
    return training.generator.kernels().detach(), losses


def test_pictures_side_by_side_are_as_alone():
    images = picture(2, LARGE_CROP)
    both, losses = trained([1, 2], images, 3)
    alone, alone_losses = trained([2], images[1:], 3)
    torch.testing.assert_close(both[1:], alone, rtol=1e-2, atol=1e-7)  # steps of Adam magnify rounding
    torch.testing.assert_close(losses[0][1:], alone_losses[0], rtol=1e-2, atol=0)


def test_the_kernel_comes_to_have_sum_one():
    kernels, _ = trained([1], picture(1, LARGE_CROP), 60)
    assert 0.9 < float(kernels.sum()) < 1.1


def test_the_same_seed_gives_the_same_kernel():
    images = picture(1, LARGE_CROP)
    assert torch.equal(trained([1], images, 4)[0], trained([1], images, 4)[0])
    assert not torch.equal(trained([1], images, 4)[0], trained([2], images, 4)[0])
