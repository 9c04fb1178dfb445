"""High-pass statistics: the filter's gain, and a known law of noise recovered from scenes that differ."""

import numpy as np
import pytest

from deflow_cli.errors import DataError
from deflow_cli.metrics.filters import WHITE_GAIN, gain, high_pass
from deflow_cli.metrics.flat_patches import choose, gradient_energy, patch_grid, patch_means
from deflow_cli.metrics.noise.high_pass import UnpairedStatistics, compare_unpaired
from tests.metrics.noise.noisy_scenes import Law, noise, noisy, scene

LAW = Law(std=10.0, slope=0.6, blur=0.7, gains=(1.0, 0.8, 1.2), shared=0.3)


@pytest.fixture(scope="module")
def real() -> UnpairedStatistics:
    return UnpairedStatistics.of(noisy(LAW, 24, seed=0))


@pytest.fixture(scope="module")
def known() -> UnpairedStatistics:
    """The same law where there is no content, on grey of half brightness."""
    grey = np.full((192, 192, 3), 0.5)
    rngs = (np.random.default_rng([9, i]) for i in range(8))
    return UnpairedStatistics.of(
        np.clip(np.rint(127.5 + noise(LAW, grey, rng)), 0, 255).astype(np.uint8) for rng in rngs
    )


@pytest.mark.parametrize("cycles", [(0, 3), (4, 4), (10, 2), (16, 0), (0, 32)])
def test_gain_is_the_filters(cycles: tuple[int, int]) -> None:
    y, x = np.mgrid[:64, :64]
    wave = np.cos(2 * np.pi * (cycles[0] * y + cycles[1] * x) / 64)
    image = np.repeat(np.rint(127 + 100 * wave)[..., None], 3, 2).astype(np.uint8)
    inner = (slice(8, 56), slice(8, 56))
    told = float(gain(np.float64(cycles[0] / 64), np.float64(cycles[1] / 64)))
    assert np.abs(high_pass(image)[inner] - told * 100 / 255 * wave[inner][..., None]).max() < 0.6 / 255
    assert gain(np.zeros(1), np.zeros(1)) == 0.0


def test_white_gain() -> None:
    rng = np.random.default_rng(0)
    image = np.clip(np.rint(128 + 20 * rng.standard_normal((256, 256, 3))), 0, 255).astype(np.uint8)
    assert high_pass(image).std() * 255 == pytest.approx(20 * WHITE_GAIN, rel=0.01)


def test_high_pass_refuses_other_pixels() -> None:
    with pytest.raises(DataError, match="uint8 H x W x 3, got float64"):
        high_pass(np.zeros((9, 9, 3)))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"\(9, 9\)"):
        high_pass(np.zeros((9, 9), dtype=np.uint8))


def test_patch_means_are_means() -> None:
    plane = np.random.default_rng(0).standard_normal((41, 50))
    means = patch_means(plane, 8, 4, margin=3)
    assert means.shape == (7, 10)
    assert means[2, 5] == pytest.approx(plane[11:19, 23:31].mean())


def test_gradient_energy_of_a_slope_is_three() -> None:
    image = np.repeat(np.arange(20, 120, dtype=np.uint8)[None, :, None], 60, 0).repeat(3, 2)
    assert gradient_energy(image)[30, 50] == pytest.approx(3.0, abs=0.01)


def test_flat_patches_leave_out_content_and_clipping() -> None:
    rng = np.random.default_rng(3)
    image = np.full((128, 256, 3), 120.0)
    image[:, 128:192] += 40 * (np.indices((128, 64)).sum(0) // 6 % 2)[..., None]  # a pattern of 6 px
    image[:, 192:] = 254.0
    pixels = np.clip(np.rint(image + 6 * rng.standard_normal(image.shape)), 0, 255).astype(np.uint8)
    grid = patch_grid(pixels, high_pass(pixels), 24, 12)
    assert grid.corners[:, 1].max() < 192 - 12
    (kept,) = choose([grid])
    corners = grid.corners[kept]
    assert len(corners) > 20
    assert corners[:, 1].max() <= 128 - 24 + 4


def test_a_law_is_recovered_though_scenes_hide_it(
    real: UnpairedStatistics, known: UnpairedStatistics
) -> None:
    assert real.std == pytest.approx(known.std, rel=0.04)
    np.testing.assert_allclose(real.channel_std, known.channel_std, rtol=0.04)
    np.testing.assert_allclose(real.channel_correlation, known.channel_correlation, atol=0.03)
    assert np.abs(real.autocorrelation - known.autocorrelation).max() < 0.03
    assert np.abs(real.psd_db - known.psd_db)[:, 2:].max() < 0.8
    # content itself is far from it: the same figures of the clean scenes
    clean = [np.rint(255 * scene(np.random.default_rng([0, i]))).astype(np.uint8) for i in range(24)]
    everything = np.sqrt(np.mean([np.mean(high_pass(image) ** 2) for image in clean]))
    assert everything > 0.6 * known.std


def test_noise_level_follows_brightness(real: UnpairedStatistics, known: UnpairedStatistics) -> None:
    luma = (np.arange(16) + 0.5) / 16
    law = known.std * (1 + LAW.slope * (luma - 0.5))
    found = ~np.isnan(real.noise_level)
    assert found.sum() >= 7
    assert np.abs(real.noise_level[found] / law[found] - 1).max() < 0.08


def test_the_same_law_on_other_scenes_is_near(real: UnpairedStatistics) -> None:
    other = compare_unpaired(real, UnpairedStatistics.of(noisy(LAW, 24, seed=1)))
    assert other["kl"] < 0.002
    assert other["std_ratio"] == pytest.approx(1.0, abs=0.03)
    assert other["acf_rms"] < 0.015
    assert other["psd_db"] < 0.3
    assert other["noise_level_rms"] < 0.5


@pytest.mark.parametrize(
    ("law", "figure", "bound"),
    [
        (Law(13.0, 0.6, 0.7, (1.0, 0.8, 1.2), 0.3), "std_ratio", 1.25),
        (Law(10.0, 0.6, 0.0, (1.0, 0.8, 1.2), 0.3), "acf_rms", 0.05),
        (Law(10.0, 0.6, 0.0, (1.0, 0.8, 1.2), 0.3), "psd_db", 1.5),
        (Law(10.0, 0.6, 0.7, (1.3, 0.8, 0.8), 0.3), "channel_std_rms", 1.0),
        (Law(10.0, 0.6, 0.7, (1.0, 0.8, 1.2), 0.9), "channel_correlation_rms", 0.4),
        (Law(10.0, -0.9, 0.7, (1.0, 0.8, 1.2), 0.3), "noise_level_rms", 1.0),
    ],
)
def test_each_wrong_law_is_seen_by_its_figure(
    real: UnpairedStatistics, law: Law, figure: str, bound: float
) -> None:
    assert compare_unpaired(real, UnpairedStatistics.of(noisy(law, 24, seed=2)))[figure] > bound


def test_halves_are_rows(real: UnpairedStatistics) -> None:
    half = real[::2]
    assert len(half) == 12
    np.testing.assert_array_equal(half.patches, real.take(np.arange(0, 24, 2)).patches)
    assert compare_unpaired(half, real[1::2])["kl"] < 0.003
    assert np.isnan(real.take(np.empty(0, dtype=np.int64)).std)


def test_pictures_without_a_patch_count_for_nothing() -> None:
    images = noisy(LAW, 6, seed=0)
    clipped = np.full((96, 96, 3), 255, dtype=np.uint8)
    mixed = UnpairedStatistics.of([*images, clipped, images[0][:20, :20]])
    assert mixed.patches[6:].tolist() == [0, 0]
    plain = UnpairedStatistics.of(images)
    assert mixed.std == pytest.approx(plain.std)
    assert mixed.image_kurtosis == pytest.approx(plain.image_kurtosis)
    with pytest.raises(DataError, match="none of 2 pictures"):
        UnpairedStatistics.of([clipped, clipped])
    with pytest.raises(DataError, match="no picture"):
        UnpairedStatistics.of([])
