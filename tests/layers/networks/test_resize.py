"""Bicubic downsampling: MATLAB's numbers, any size, gradients."""

import pytest
import torch

from deflow_cli.errors import ShapeError
from deflow_cli.layers.networks.resize import bicubic_downsample


def test_known_numbers_of_a_ramp_and_an_edge() -> None:
    ramp = torch.arange(8, dtype=torch.float64).repeat(8, 1)[None, None]
    # mirrored edges bend the ramp; computed by hand from the kernel weights at (j + 0.5) / 2
    weights = torch.tensor([-3, -9, 29, 111, 111, 29, -9, -3], dtype=torch.float64) / 256
    mirrored = torch.tensor([2.0, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 7, 6, 5], dtype=torch.float64)
    expected = torch.stack([(mirrored[2 * i : 2 * i + 8] * weights).sum() for i in range(4)])
    out = bicubic_downsample(ramp, 2)
    assert out.shape == (1, 1, 4, 4)
    torch.testing.assert_close(out[0, 0, 1], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (37, 53)])
def test_any_size_keeps_a_constant(factor: int, size: tuple[int, int]) -> None:
    image = torch.full((2, 3, *size), 0.37)
    out = bicubic_downsample(image, factor)
    assert out.shape == (2, 3, -(-size[0] // factor), -(-size[1] // factor))
    torch.testing.assert_close(out, torch.full_like(out, 0.37), rtol=0, atol=1e-6)


def test_halves_round_up_or_to_even() -> None:
    image = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64).repeat(8, 8)[None, None] + 2
    up, even = (bicubic_downsample(image, 2, rounding=r)[0, 0, 2:-2, 2:-2] for r in ("half-up", "half-even"))
    assert (up == 3).all()  # 2.5 away from the borders
    assert (even == 2).all()
    wide = 255 * (image - 2)
    assert bicubic_downsample(wide, 1, rounding="half-up").max() == 255


def test_gradient_is_the_transpose() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 9, 11, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: bicubic_downsample(x, 4), (image,))


def test_wrong_input_is_named() -> None:
    with pytest.raises(ShapeError, match="B x C x H x W"):
        bicubic_downsample(torch.zeros(3, 8, 8), 2)
    with pytest.raises(ShapeError, match="factor 0"):
        bicubic_downsample(torch.zeros(1, 3, 8, 8), 0)
