"""Independence: samples with a known share in common."""

import numpy as np
import pytest

from deflow_cli.errors import DataError
from deflow_cli.metrics.noise.independence import correlation, measure_independence
from deflow_cli.metrics.noise.residual import Fluctuation, chance_variance
from tests.metrics.distances.generators import HONEST, WRONG, field, level, pictures


def draw(law, cleans, samples):
    return [[law(c, np.random.default_rng([i, k])) for k in range(samples)] for i, c in enumerate(cleans)]


@pytest.mark.parametrize("name", [name for name in HONEST if name != "white, jpeg 30"])
def test_honest_noise_passes(name):
    cleans = pictures(5, 96)
    result = measure_independence(cleans, draw(HONEST[name], cleans, 2))
    assert result.passes
    assert result.bound < 0.2
    if "jpeg" not in name:
        assert abs(result.correlation) < 0.03
        assert abs(result.noise_correlation) < 0.03


def test_mean_of_samples_approaches_the_clean_picture_as_one_over_n():
    cleans = pictures(4, 96)
    result = measure_independence(cleans, draw(HONEST["right"], cleans, 6))
    assert result.expected_ratio == pytest.approx(1 / 6)
    assert result.average_ratio == pytest.approx(1 / 6, rel=0.05)
    assert result.effective_samples == pytest.approx(6, rel=0.05)


def test_deterministic_model_is_caught():
    cleans = pictures(3, 96)
    result = measure_independence(cleans, draw(WRONG["deterministic"].law, cleans, 3))
    assert result.identical
    assert result.correlation == pytest.approx(1)
    assert result.noise_correlation == pytest.approx(1)
    assert result.average_ratio == pytest.approx(1)
    assert not result.passes


def test_half_of_the_noise_repeated_is_a_correlation_of_a_half():
    cleans = pictures(4, 96)
    result = measure_independence(cleans, draw(WRONG["half random"].law, cleans, 4))
    assert result.correlation == pytest.approx(0.5, abs=0.03)
    assert result.average_ratio == pytest.approx(0.5 + 0.5 / 4, abs=0.03)
    assert not result.identical
    assert not result.passes


def test_blur_in_every_sample_is_no_lack_of_randomness():
    cleans = pictures(4, 96)
    result = measure_independence(cleans, draw(WRONG["blurred content"].law, cleans, 2))
    assert result.correlation > 0.15  # as the definition has it
    assert abs(result.noise_correlation) < 0.05
    assert result.passes


def test_unchanged_pictures_count_as_deterministic():
    cleans = pictures(2, 64)
    result = measure_independence(cleans, [[c, c.copy()] for c in cleans])
    assert (result.correlation, result.average_ratio) == (1.0, 1.0)
    assert not result.passes


def test_chance_variance_is_what_draws_show():
    amplitude = level(pictures(1, 64)[0])
    values, predicted = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        one, other = (amplitude * field((64, 64), rng, blur=0.8, tie=0.5) for _ in range(2))
        values.append(correlation(one, other))
        predicted.append(chance_variance(Fluctuation.of(one), Fluctuation.of(other)))
    assert np.mean(predicted) == pytest.approx(np.mean(np.square(values)), rel=0.3)


def test_chance_variance_of_white_noise_is_one_over_the_number_of_values():
    rng = np.random.default_rng(0)
    variances = [
        chance_variance(*(Fluctuation.of(rng.standard_normal((64, 64, 3))) for _ in range(2)))
        for _ in range(20)
    ]
    assert np.mean(variances) == pytest.approx(1 / (64 * 64 * 3), rel=0.1)


def test_errors_name_what_is_missing():
    cleans = pictures(2, 64)
    with pytest.raises(DataError, match="two samples"):
        measure_independence(cleans, [[c] for c in cleans])
    with pytest.raises(DataError, match="1 pictures for 2"):
        measure_independence(cleans, [[cleans[0]] * 2])
    with pytest.raises(DataError, match="uint8"):
        measure_independence(cleans[:1], [[cleans[0] / 255.0] * 2])
