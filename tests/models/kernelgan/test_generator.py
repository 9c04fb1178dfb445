"""The generator: its layers and the kernel that they are."""

from __future__ import annotations

import torch

from deflow_cli.models.kernelgan.generator import DeepLinearGenerator, apply_kernels


def test_merged_kernel_is_the_network():
    generator = DeepLinearGenerator([3, 4], width=8).double()
    images = torch.rand(2, 3, 40, 37, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    through = generator.layer_by_layer(images)
    merged = apply_kernels(images, generator.kernels())
    assert through.shape == merged.shape == (2, 3, 14, 13)
    torch.testing.assert_close(merged, through, rtol=1e-10, atol=1e-14)


def test_merging_has_the_gradients_of_the_network():
    generator = DeepLinearGenerator([3], width=4).double()
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = list(generator.parameters())
    through = torch.autograd.grad(generator.layer_by_layer(images).square().sum(), weights)
    merged = torch.autograd.grad(apply_kernels(images, generator.kernels()).square().sum(), weights)
    for ours, theirs in zip(merged, through, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-16)


def test_sizes_of_the_published_network():
    generator = DeepLinearGenerator([0])
    shapes = [tuple(weight.shape[1:]) for weight in generator.parameters()]
    inner = [(64, 64, side, side) for side in (5, 3, 1, 1)]
    assert shapes == [(64, 1, 7, 7), *inner, (1, 64, 1, 1)]
    assert generator.kernels().shape == (1, 13, 13)
    assert apply_kernels(torch.rand(1, 3, 64, 64), generator.kernels()).shape == (1, 3, 26, 26)


def test_start_depends_on_the_seed_alone():
    pair, alone = DeepLinearGenerator([5, 6], width=4), DeepLinearGenerator([6], width=4)
    for both, one in zip(pair.parameters(), alone.parameters(), strict=True):
        assert torch.equal(both[1:], one)
        assert not torch.equal(both[:1], one)


def test_start_is_xavier_with_gain_a_tenth():
    weight = list(DeepLinearGenerator([0]).parameters())[1]
    expected = 0.1 * (2 / (64 * 25 + 64 * 25)) ** 0.5
    assert abs(float(weight.detach().std()) / expected - 1) < 0.02
