"""Grain: its table, its guide and its stationary pattern are what they say."""

from __future__ import annotations

import pytest
import torch

from deflow_cli.models.deflow.grain import (
    KERNEL_SIDE,
    Grain,
    bring_up_to_date,
    correlated,
    guide_features,
    kernel_of,
    look_up,
    opponent_basis,
    places,
    spread_over,
    strengthened,
)

KNOTS_B, KNOTS_T = torch.tensor([10.0, 60.0, 200.0]), torch.tensor([-1.0, 0.0, 2.0, 5.0])


def test_a_table_has_its_values_at_the_knots_and_holds_its_ends():
    table = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    at_b, at_t = places(KNOTS_B, KNOTS_B), places(KNOTS_T[:3], KNOTS_T)
    for row in range(3):
        for column in range(3):
            found = look_up(table, (at_b[0][row], at_b[1][row]), (at_t[0][column], at_t[1][column]))
            assert float(found) == pytest.approx(float(table[row, column]), abs=1e-6)
    beyond = look_up(table, places(torch.tensor([300.0]), KNOTS_B), places(torch.tensor([9.0]), KNOTS_T))
    assert float(beyond) == pytest.approx(float(table[-1, -1]), abs=1e-6)


def test_spread_over_is_the_transpose_of_look_up():
    generator = torch.Generator().manual_seed(1)
    table = torch.rand(3, 4, generator=generator, dtype=torch.float64)
    values = torch.rand(50, generator=generator, dtype=torch.float64)
    brightness = places(torch.rand(50, generator=generator) * 250, KNOTS_B)
    texture = places(torch.rand(50, generator=generator) * 8 - 2, KNOTS_T)
    one = (look_up(table, brightness, texture) * values).sum()
    other = (spread_over(values, brightness, texture, (3, 4)) * table).sum()
    assert float(one) == pytest.approx(float(other), rel=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (65, 71)])
def test_the_guide_sees_brightness_and_texture(size):
    image = torch.full((1, 3, *size), 0.2)
    image[..., size[1] // 2 :] = 0.8
    random = torch.Generator().manual_seed(2)
    image[..., : size[1] // 2] += 0.15 * torch.randn(1, 3, size[0], size[1] // 2, generator=random)
    noise = torch.randn(1, -(-size[0] // 2), -(-size[1] // 2), generator=random)
    brightness, texture = guide_features(image, noise)
    assert brightness.shape == texture.shape == noise.shape
    assert float(brightness[..., 2:10].mean()) == pytest.approx(0.2 * 255, abs=5)
    assert float(brightness[..., -10:].mean()) == pytest.approx(0.8 * 255, abs=1)
    assert float(texture[..., 2:10].mean()) > float(texture[..., -10:].mean()) + 2


def test_the_gain_map_covers_the_image():
    grain = Grain()
    grain.set(
        torch.tensor([1.5, 1.0, 0.5])[:, None, None].expand(3, 6, 8),
        grain.brightness.clone(),
        grain.texture.clone(),
        0.1,
        None,
    )
    gain = grain.gain(torch.rand(2, 3, 33, 50), torch.zeros(2, 17, 25))
    assert gain.shape == (2, 3, 33, 50)
    assert torch.allclose(gain, torch.tensor([1.5, 1.0, 0.5])[:, None, None].expand_as(gain))
    assert bool(grain.matched)
    assert not bool(grain.stationary)


def test_opponent_channels_are_luminance_and_colour_differences():
    basis = opponent_basis(3)
    assert torch.allclose(basis @ basis.T, torch.eye(3), atol=1e-6)
    assert torch.allclose(basis[0], torch.tensor(3**-0.5).expand(3), atol=1e-6)
    assert torch.allclose(basis[1], torch.tensor([1.0, 0.0, -1.0]) / 2**0.5, atol=1e-6)
    assert torch.allclose(basis[2], torch.tensor([1.0, -2.0, 1.0]) / 6**0.5, atol=1e-6)


def test_gains_strengthen_their_opponent_channels():
    basis, random = opponent_basis(3), torch.Generator().manual_seed(6)
    pattern = torch.randn(2, 3, 5, 7, generator=random)
    gain = torch.rand(2, 3, 5, 7, generator=random)
    found = torch.einsum("ij,bjhw->bihw", basis, strengthened(pattern, gain, basis))
    assert torch.allclose(found, gain * torch.einsum("ij,bjhw->bihw", basis, pattern), atol=1e-6)


def test_equal_gains_are_a_plain_factor():
    """To the bit, so that models from before the tables of colours give the images they gave."""
    random = torch.Generator().manual_seed(7)
    pattern, gain = torch.randn(2, 3, 5, 7, generator=random), torch.rand(2, 1, 5, 7, generator=random)
    assert torch.equal(strengthened(pattern, gain.expand(2, 3, 5, 7), opponent_basis(3)), gain * pattern)


def test_tensors_from_before_the_tables_of_colours_are_brought_up_to_date():
    tensors = {f"grain.{key}": value for key, value in Grain().state_dict().items()}
    new = set(tensors)
    del tensors["grain.gain_cbt"]
    table = torch.rand(6, 8, generator=torch.Generator().manual_seed(8))
    old = tensors | {"grain.gain_bt": table}
    bring_up_to_date(old)
    assert set(old) == new
    assert torch.equal(old["grain.gain_cbt"], table.expand(3, 6, 8))
    bring_up_to_date(old)
    assert set(old) == new


def test_a_stationary_pattern_has_its_spectrum():
    """Variances, the channels' covariance and the correlation of neighbours, all known."""
    frequency = torch.fft.fftfreq(KERNEL_SIDE, dtype=torch.float64)
    low_pass = torch.exp(-8 * (frequency[:, None] ** 2 + frequency[None] ** 2))
    mixing = torch.tensor([[4.0, 1.0, 0.5], [1.0, 2.0, 0.0], [0.5, 0.0, 1.0]], dtype=torch.float64)
    kernel = kernel_of((low_pass[..., None, None] * mixing).to(torch.complex128))
    random = torch.Generator().manual_seed(3)
    side = 400
    white = torch.randn(1, 3, side + 63, side + 63, generator=random, dtype=torch.float64)
    pattern = correlated(kernel, white)[0]
    assert pattern.shape == (3, side, side)
    covariance = torch.cov(pattern.flatten(1))
    assert torch.allclose(covariance, low_pass.mean() * mixing, rtol=0.03, atol=0.03)
    shifted = (pattern[0, :, 1:] * pattern[0, :, :-1]).mean() / pattern[0].square().mean()
    expected = (low_pass * torch.cos(2 * torch.pi * frequency)[None]).mean() / low_pass.mean()
    assert float(shifted) == pytest.approx(float(expected), abs=0.02)


def test_a_window_of_the_pattern_is_the_pattern_of_a_window():
    kernel = torch.randn(3, 3, KERNEL_SIDE, KERNEL_SIDE, generator=torch.Generator().manual_seed(4))
    white = torch.randn(1, 3, 163, 183, generator=torch.Generator().manual_seed(5))
    whole = correlated(kernel, white)
    part = correlated(kernel, white[..., 20 : 20 + 40 + 63, 30 : 30 + 50 + 63])
    assert torch.allclose(part, whole[..., 20:60, 30:80], atol=1e-3)
