"""The shared statistics: each against a slow definition, a known distribution or an edge case."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.errors import ShapeError
from deflow_cli.metrics.nss import (
    aggd,
    check_images,
    cut_blocks,
    ggd,
    half_scale,
    matlab_gray,
    mscn,
    neighbour_products,
)
from tests.metrics.quality import iqa_plain
from tests.metrics.quality.iqa_golden import NAMES, figures, golden_batch, golden_pixels, sha256_16


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_the_golden_ones(name: str) -> None:
    assert sha256_16(golden_pixels(name)) == figures()[name]["sha256_16"]
    assert float(matlab_gray(golden_batch(name)).mean()) == pytest.approx(
        float(figures()[name]["gray_mean"]), abs=1e-6
    )


def test_gray_rounds_to_the_nearest_and_keeps_grey() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256)
    assert torch.equal(matlab_gray(ramp)[0, 0], torch.arange(256, dtype=torch.float64))
    assert torch.equal(matlab_gray(ramp[:, :1])[0, 0], torch.arange(256, dtype=torch.float64))
    one = torch.tensor([3, 1, 9], dtype=torch.uint8).reshape(1, 3, 1, 1)  # 2.51
    assert float(matlab_gray(one)) == 3


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 8), (40, 57), (64, 48)])
def test_half_scale_is_the_general_weights(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).uniform(0, 255, size)
    ours = half_scale(torch.from_numpy(image)[None])[0].numpy()
    assert ours.shape == ((size[0] + 1) // 2, (size[1] + 1) // 2)
    np.testing.assert_allclose(ours, iqa_plain.half(image), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("padding", "mode"), [("replicate", "nearest"), ("zeros", "constant")])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (31, 44)])
def test_mscn_is_the_two_dimensional_window(padding: str, mode: str, size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, size).astype(np.float64)
    values, sigma = mscn(torch.from_numpy(image)[None], padding=padding)  # type: ignore[arg-type]
    plain_values, plain_sigma = iqa_plain.mscn(image, mode)
    np.testing.assert_allclose(values[0].numpy(), plain_values, rtol=0, atol=1e-11)
    np.testing.assert_allclose(sigma[0].numpy(), plain_sigma, rtol=0, atol=1e-5)


@pytest.mark.parametrize("level", [1.0, 37.0, 137.0, 254.0, 255.0])
def test_flat_areas_are_exactly_zero(level: float) -> None:
    """Without the snap rule some of these are 3e-14, of either sign."""
    image = torch.full((1, 60, 61), level, dtype=torch.float64)
    image[:, 40:, :] += torch.arange(61) % 7
    values, _ = mscn(image)
    assert (values[:, :37] == 0).all()
    assert (values[:, 40:] != 0).any()


def test_asymmetric_fit_recovers_a_known_distribution() -> None:
    rng = np.random.default_rng(2)
    count = 400_000
    for alpha, left, right in ((2.0, 1.0, 1.0), (1.0, 0.5, 1.5), (0.7, 1.0, 0.6)):
        # density ~ exp(-(|x| / beta)^alpha), either side with a mass proportional to its beta
        magnitude = rng.gamma(1 / alpha, size=count) ** (1 / alpha)
        is_left = rng.random(count) < left / (left + right)
        values = torch.from_numpy(np.where(is_left, -left * magnitude, right * magnitude))
        fit = aggd(values)
        assert float(fit.alpha) == pytest.approx(alpha, rel=0.02)
        assert float(fit.left * fit.scale) == pytest.approx(left, rel=0.02)
        assert float(fit.right * fit.scale) == pytest.approx(right, rel=0.02)
        mean = (right - left) * float(fit.ratio)
        assert float(values.mean()) == pytest.approx(mean, abs=0.02)


def test_symmetric_fit_recovers_a_known_distribution() -> None:
    rng = np.random.default_rng(3)
    for values, alpha in ((rng.normal(0, 3, 200_000), 2.0), (rng.laplace(0, 2, 200_000), 1.0)):
        fit = ggd(torch.from_numpy(values))
        assert float(fit.alpha) == pytest.approx(alpha, rel=0.03)
        assert float(fit.variance) == pytest.approx((values**2).mean(), rel=1e-12)


def test_both_fits_search_the_grid_exactly() -> None:
    """Thousands of small samples: the sorted search must give the index that the whole search gives."""
    values = np.random.default_rng(4).standard_t(3, (2000, 12))
    fit, symmetric = aggd(torch.from_numpy(values)), ggd(torch.from_numpy(values))
    for index, row in enumerate(values):
        assert float(fit.alpha[index]) == iqa_plain.aggd(row)[0]
        assert float(symmetric.alpha[index]) == iqa_plain.ggd(row)[0]


def test_undefined_fits_are_nan_with_the_least_shape() -> None:
    values = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0], [-1.0, -2.0, 0.0]], dtype=torch.float64)
    fit = aggd(values)
    assert fit.alpha.tolist() == [0.2, 0.2, 0.2]
    assert fit.left.isnan().tolist() == [True, True, False]
    assert fit.right.isnan().tolist() == [True, False, True]
    assert float(ggd(values).alpha[0]) == 0.2


def test_products_wrap_around() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 5.0], [7.0, 11.0]], dtype=torch.float64)
    right, below, diagonal, other = neighbour_products(values)
    assert right.tolist() == [[2, 2], [15, 15], [77, 77]]
    assert below.tolist() == [[7, 22], [3, 10], [21, 55]]
    assert diagonal.tolist() == [[11, 14], [6, 5], [35, 33]]
    assert other.tolist() == [[11, 14], [6, 5], [35, 33]]


def test_blocks_are_cut_row_by_row() -> None:
    image = torch.arange(2 * 5 * 7).reshape(2, 5, 7)
    blocks = cut_blocks(image, 2)
    assert blocks.shape == (2, 6, 2, 2)
    assert torch.equal(blocks[1, 4], image[1, 2:4, 2:4])


def test_only_8_bit_colour_is_taken() -> None:
    for wrong in (torch.zeros(1, 3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)):
        with pytest.raises(ShapeError):
            check_images(wrong)
    with pytest.raises(ShapeError):
        check_images(torch.zeros(1, 3, 0, 4, dtype=torch.uint8))
