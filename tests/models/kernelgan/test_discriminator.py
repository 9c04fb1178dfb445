"""The discriminator: its spectral normalisation, its field, and that pictures do not meet."""

from __future__ import annotations

import torch

from deflow_cli.models.kernelgan.discriminator import SurroundingsDiscriminator


def crops(count, many=2, side=26):
    return torch.rand(count, many, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_map_of_a_crop():
    discriminator = SurroundingsDiscriminator([0, 1], width=8)
    seen = discriminator(crops(2), discriminator.normalised())
    assert seen.shape == (2, 2, 20 * 20)
    assert 0 < float(seen.detach().min()) < float(seen.detach().max()) < 1


def test_weights_come_to_have_norm_one():
    discriminator = SurroundingsDiscriminator([0, 1], width=8)
    for _ in range(200):
        weights = discriminator.normalised()
    for weight in weights:
        norms = torch.linalg.matrix_norm(weight.detach(), 2)
        torch.testing.assert_close(norms, torch.ones(2), rtol=1e-3, atol=0)


def test_pictures_do_not_meet():
    both, alone = SurroundingsDiscriminator([0, 1], width=8), SurroundingsDiscriminator([1], width=8)
    ours = both(crops(2), both.normalised())[1:]
    theirs = alone(crops(2)[1:], alone.normalised())
    torch.testing.assert_close(ours, theirs)


def test_maps_are_normalised_each_by_itself():
    discriminator = SurroundingsDiscriminator([0], width=8)
    weights = discriminator.normalised()
    both = discriminator(crops(1), weights)
    first = discriminator(crops(1)[:, :1], weights)
    torch.testing.assert_close(both[:, :1], first)


def test_a_value_depends_on_its_surroundings_and_the_maps_statistics():
    """Against ordinary layers of PyTorch: convolution, batch normalisation of a batch of one, ReLU."""
    discriminator = SurroundingsDiscriminator([0], width=8)
    weights = [weight.detach() for weight in discriminator.normalised()]
    x = torch.conv2d(crops(1, 1)[0], weights[0].reshape(8, 3, 7, 7))
    for weight, scale in zip(weights[1:-1], discriminator.scales, strict=True):
        x = torch.conv2d(x, weight.reshape(8, 8, 1, 1))
        x = torch.nn.functional.batch_norm(x, None, None, scale.detach()[0, :, 0], None, training=True).relu()
    expected = torch.conv2d(x, weights[-1].reshape(1, 8, 1, 1)).sigmoid()
    seen = discriminator(crops(1, 1), weights)
    torch.testing.assert_close(seen.detach().reshape(1, 1, 20, 20), expected, rtol=1e-4, atol=1e-5)
