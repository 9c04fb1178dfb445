"""Residual statistics against noises whose statistics are known."""

import numpy as np
import pytest

from deflow_cli.errors import DataError
from deflow_cli.metrics.noise import residual as res
from deflow_cli.metrics.noise.comparison import ResidualStatistics, compare
from tests.metrics.noise.residual_sets import radial_psd_db, residual_kl


def quantise(image):
    return np.rint(np.clip(image, 0, 1) * 255) / 255


def noisy_set(seed, sigma=10 / 255, count=3, size=(96, 112), shape=None):
    """Residuals of white noise on mid grey, or of noise made by ``shape(white)``."""
    generator = np.random.default_rng(seed)
    result = []
    for _ in range(count):
        noise = generator.standard_normal((*size, 3))
        noise = noise if shape is None else shape(noise)
        result.append(quantise(0.5 + sigma * noise) - quantise(np.array(0.5)))
    return result


def smooth(noise):
    """MA filter (1, 1) / sqrt 2 along x: unit variance, correlation 0.5 at lag one."""
    return (noise + np.roll(noise, 1, axis=1)) / np.sqrt(2)


def test_default_bins_hold_one_level_each():
    counts = np.zeros(511, dtype=np.int64)
    for level in range(-30, 31):
        counts[255 + level] = 100 + level
    bins = res.aligned_bins(counts)
    assert len(bins) == 53
    assert bins[26] == 100  # zero in the middle
    assert list(bins[1:-1]) == [100 + level for level in range(-25, 26)]
    assert bins[0] == sum(100 + level for level in range(-30, -25))
    assert bins.sum() == counts.sum()


def test_wide_bins_hold_equally_many_levels():
    bins = res.aligned_bins(np.ones(511, dtype=np.int64), bins=64, limit=0.5)
    assert set(bins[1:-1].tolist()) == {3} or set(bins[1:-1].tolist()) == {5}
    assert len(bins) <= 66
    assert bins.sum() == 511


def test_aligned_bins_equal_published_bins_on_8_bit_residuals():
    real, fake = noisy_set(0), noisy_set(1, sigma=13 / 255)
    plain = [res.plain_bins(res.sum_histograms(each)) for each in (real, fake)]
    assert len(plain[0]) == 66
    assert residual_kl(real, fake) == pytest.approx(res.kl_divergence(*plain), abs=1e-12)


def test_plain_bins_agree_with_numpy_on_the_residuals_themselves():
    real = noisy_set(3)
    edges = np.concatenate([[-np.inf], np.linspace(-0.1, 0.1, 65), [np.inf]])
    direct = np.histogram(np.concatenate([r.ravel() for r in real]), edges)[0]
    assert np.array_equal(direct, res.plain_bins(res.sum_histograms(real)))


def test_kl_of_two_gaussians_is_the_closed_form():
    real, fake = noisy_set(0, 8 / 255, 8), noisy_set(1, 11 / 255, 8)
    expected = np.log(11 / 8) + 64 / (2 * 121) - 0.5
    assert residual_kl(real, fake) == pytest.approx(expected, rel=0.05)
    assert residual_kl(real, noisy_set(2, 8 / 255, 8)) < 1e-3
    assert residual_kl(real, fake) != pytest.approx(residual_kl(fake, real), rel=0.1)  # it has a direction


def test_kl_of_a_fake_without_noise_is_infinite():
    real = noisy_set(0)
    still = [np.zeros_like(residual) for residual in real]
    assert residual_kl(real, still) == np.inf
    assert res.residual_kl_naf(res.sum_histograms(real), res.sum_histograms(still)) == np.inf
    assert np.isfinite(residual_kl(still, real))


def counts_of(**levels):
    counts = np.zeros(511, dtype=np.int64)
    for name, count in levels.items():
        counts[255 + int(name[1:]) * (-1 if name[0] == "m" else 1)] = count
    return counts


def test_kl_naf_by_hand():
    # 256 bins of 2/256 on [-1, 1] hold two levels each, but for every odd one out: 0 and 1 share one
    real, fake = counts_of(p0=30, p1=10, p10=40, p20=20), counts_of(p0=10, p10=30, m20=60)
    expected = 0.4 * np.log(0.4 / 0.1) + 0.4 * np.log(0.4 / 0.3)  # level 20 is empty in fake: dropped
    assert res.residual_kl_naf(real, fake) == pytest.approx(expected)


def test_kl_neca_by_hand():
    # 64 bins of 0.2/64 are narrower than a level; 26 and beyond overflow, on either side apart
    real, fake = counts_of(p0=20, p1=20, p26=30, p90=10, m40=20), counts_of(p0=10, p1=40, p30=20, m26=30)
    expected = 0.2 * np.log(0.2 / 0.1) + 0.2 * np.log(0.2 / 0.4)
    expected += 0.4 * np.log(0.4 / 0.2) + 0.2 * np.log(0.2 / 0.3)
    assert res.kl_divergence(res.plain_bins(real), res.plain_bins(fake)) == pytest.approx(expected)


def test_kl_naf_of_sets_is_the_mean_over_pairs():
    real = [noisy_set(seed, sigma, count=1)[0] for seed, sigma in ((0, 8 / 255), (1, 12 / 255))]
    fake = [noisy_set(seed, sigma, count=1)[0] for seed, sigma in ((2, 12 / 255), (3, 8 / 255))]
    figures = compare(ResidualStatistics.of(real), ResidualStatistics.of(fake))
    each = [
        res.residual_kl_naf(res.level_histogram(a), res.level_histogram(b))
        for a, b in zip(real, fake, strict=True)
    ]
    assert figures["kl_naf"] == pytest.approx(np.mean(each))
    assert figures["kl_naf"] > 0.1
    assert figures["kl"] < 0.01  # pooled, the two sets are alike


def test_residual_of_is_noisy_less_clean():
    clean, noisy = np.full((4, 5, 3), 200, np.uint8), np.full((4, 5, 3), 190, np.uint8)
    assert res.residual_of(clean, noisy) == pytest.approx(-10 / 255)
    with pytest.raises(DataError, match="its degradation"):
        res.residual_of(clean, noisy[:3])
    with pytest.raises(DataError, match="float64"):
        res.residual_of(clean / 255.0, noisy)


def test_take_picks_pictures():
    statistics = ResidualStatistics.of(noisy_set(0, count=3) + noisy_set(1, 20 / 255, count=1))
    assert statistics.take(np.array([3])).std == pytest.approx(20 / 255, rel=0.02)
    assert len(statistics.take(np.array([0, 2]))) == 2
    assert statistics[1:].std == statistics.take(np.array([1, 2, 3])).std


def test_kl_naf_sees_a_level_change():
    real, fake = (res.sum_histograms(noisy_set(s, sigma)) for s, sigma in ((0, 8 / 255), (1, 11 / 255)))
    assert res.residual_kl_naf(real, fake) == pytest.approx(np.log(11 / 8) + 64 / 242 - 0.5, rel=0.1)


def test_autocorrelation_of_white_and_of_filtered_noise():
    white = res.autocorrelation(noisy_set(0, count=6))
    assert white.shape == (3, 9, 9)
    assert white[:, 4, 4] == pytest.approx(1)
    white[:, 4, 4] = 0
    assert np.abs(white).max() < 0.02
    coloured = res.autocorrelation(noisy_set(0, count=6, shape=smooth))
    assert coloured[:, 4, 5] == pytest.approx(0.5, abs=0.02)
    assert coloured[:, 4, 3] == pytest.approx(0.5, abs=0.02)
    assert np.abs(coloured[:, 5, 4]).max() < 0.02
    error = res.acf_error(res.autocorrelation(noisy_set(1, count=6)), coloured)
    assert error == pytest.approx(np.sqrt(2 * 0.25 / 81), rel=0.1)


def test_autocovariance_needs_room():
    with pytest.raises(DataError, match="4x9"):
        res.autocovariance(np.zeros((9, 4, 3)))


def test_white_noise_has_a_flat_spectrum_at_its_level():
    spectrum = radial_psd_db(noisy_set(0, 10 / 255, 12, (128, 160)))
    assert spectrum.shape == (3, 64)
    # low bins hold few frequencies; rounding to 8 bits adds 1/12 level squared
    excess = spectrum[:, 16:] - 10 * np.log10(100 + 1 / 12)
    assert np.abs(excess).max() < 0.7
    assert abs(excess.mean()) < 0.05
    assert res.psd_error_db(spectrum, radial_psd_db(noisy_set(1, 20 / 255, 12, (128, 160)))) == pytest.approx(
        6.0, abs=0.2
    )


def test_sine_lands_in_its_bin():
    x = np.arange(256)
    wave = np.sin(2 * np.pi * 0.25 * x)[None, :, None] * np.ones((256, 1, 3)) * 0.1
    power = res.radial_psd(wave)
    assert set(power.argmax(axis=1).tolist()) <= {31, 32}


def test_low_pass_psnr_ignores_fine_noise_and_sees_a_shift():
    grey = np.full((128, 128, 3), 0.5)
    noisy = quantise(grey + 0.04 * np.random.default_rng(0).standard_normal(grey.shape))
    assert res.low_pass_psnr(grey, noisy) > 50
    assert res.low_pass_psnr(grey, grey + 0.01) == pytest.approx(40)
    assert res.low_pass_psnr(grey, grey) == float("inf")


def test_statistics_of_a_known_noise():
    generator = np.random.default_rng(0)
    common = generator.standard_normal((4, 96, 96, 1))
    own = generator.standard_normal((4, 96, 96, 3))
    clean = np.tile(np.linspace(0.2, 0.8, 96)[None, None, :, None], (4, 96, 1, 3))
    clean = quantise(clean)
    noise = (np.sqrt(0.5) * common + np.sqrt(0.5) * own) * (0.02 + 0.04 * clean) + np.array([0.02, 0, -0.01])
    residuals = quantise(clean + noise) - clean
    statistics = ResidualStatistics.of(list(residuals), list(clean))
    assert len(statistics) == 4
    assert statistics.channel_correlation == pytest.approx([0.5, 0.5, 0.5], abs=0.03)
    assert statistics.colour_shift == pytest.approx([0.02, 0, -0.01], abs=5e-4)
    level = statistics.noise_level
    assert np.isnan(level[0])
    assert np.isnan(level[-1])
    # bins also hold the spread of the channel means, sqrt(mean of squares - square of mean)
    spread = np.array([0.02, 0, -0.01]).std()
    for index in (4, 8, 11):
        expected = np.hypot(0.02 + 0.04 * (index + 0.5) / 16, spread)
        assert level[index] == pytest.approx(expected, rel=0.05)
    assert statistics.region_std["bright"] > statistics.region_std["dark"]


def test_kurtosis_pools_levels():
    two_levels = noisy_set(0, 5 / 255) + noisy_set(1, 15 / 255)
    statistics = ResidualStatistics.of(two_levels)
    assert statistics.image_kurtosis == pytest.approx(0, abs=0.1)
    assert statistics.excess_kurtosis == pytest.approx(3 * 0.5 * (25**2 + 225**2) / 125**2 - 3, abs=0.15)


@pytest.mark.parametrize(
    ("wrong", "key", "least"),
    [
        (lambda n: 0.5 * n, "kl", 0.1),
        (lambda n: 1.5 * n, "psd_db", 3.0),
        (smooth, "acf_rms", 0.05),
        (lambda n: n + 0.2, "colour_shift", 1.5),
        (lambda n: np.repeat(n[..., :1], 3, axis=2), "channel_correlation_rms", 0.9),
    ],
    ids=["weak", "strong", "blurred", "shifted", "grey"],
)
def test_each_fault_is_caught_by_its_metric(wrong, key, least):
    real = ResidualStatistics.of(noisy_set(0))
    floor = compare(real, ResidualStatistics.of(noisy_set(1)))[key]
    assert compare(real, ResidualStatistics.of(noisy_set(2, shape=wrong)))[key] > max(least, 4 * floor)


def test_compare_of_unpaired_sets_has_no_per_image_figures():
    statistics = ResidualStatistics.of(noisy_set(0, count=4))
    figures = compare(statistics[:3], statistics[3:])
    assert np.isnan(figures["kl_image"])
    assert figures["std_ratio"] == pytest.approx(1, abs=0.02)
    assert compare(statistics, statistics)["kl_image"] == 0


def test_an_empty_set_is_an_error():
    with pytest.raises(DataError, match="no residual"):
        ResidualStatistics.of([])
