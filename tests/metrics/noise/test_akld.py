"""AKLD against values computed by hand, and its floor against draws of known noise."""

import numpy as np
import pytest

from deflow_cli.errors import DataError
from deflow_cli.metrics.noise.akld import akld, akld_self_floor, mean_akld, variance_map


def constant(value, shape=(24, 20, 3)):
    return np.full(shape, value)


def noise(seed, level=0.04, size=96):
    """White noise whose std doubles from left to right."""
    ramp = np.linspace(level * 2 / 3, level * 4 / 3, size)[None, :, None]
    return ramp * np.random.default_rng(seed).standard_normal((size, size, 3))


@pytest.mark.parametrize(
    ("real", "fake", "expected"),
    [
        (0.02, 0.02, 0.0),
        (0.02, 0.04, (-np.log(4) + 4 - 1) / 2),
        (0.04, 0.02, (np.log(4) + 0.25 - 1) / 2),
        (0.01, 0.1, (-np.log(10) + 10 - 1) / 2),  # 100, clamped to 10
        (0.1, 0.0, (np.log(10) + 0.1 - 1) / 2),  # 0 would be -inf; the floor of 1e-10, clamped
        (0.0, 0.0, 0.0),
    ],
)
def test_constant_residuals_have_the_closed_form(real, fake, expected):
    assert akld(constant(real), constant(-fake)) == pytest.approx(expected, abs=1e-12)


def test_variance_map_is_the_gaussian_window():
    impulse = np.zeros((15, 15, 3))
    impulse[7, 7, 1] = 0.5
    line = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 1.4**2))
    line /= line.sum()
    mapped = variance_map(impulse)
    assert mapped[4:11, 4:11, 1] == pytest.approx(0.25 * np.outer(line, line), abs=1e-9)
    assert mapped[0, 0, 1] == 1e-10
    assert mapped[7, 7, 0] == 1e-10
    edge = np.zeros((15, 15, 3))
    edge[1, 7] = 1.0  # reflected without the edge: once more at row -1
    assert variance_map(edge)[0, 7, 0] == pytest.approx(2 * line[2] * line[3])


def test_mean_over_samples_then_pictures():
    real = [constant(0.02), constant(0.02)]
    fakes = [[constant(0.02), constant(0.04)], [constant(0.04)]]
    four = (-np.log(4) + 3) / 2
    assert mean_akld(real, fakes) == pytest.approx((four / 2 + four) / 2)
    with pytest.raises(DataError, match="each real one"):
        mean_akld(real, fakes[:1])
    with pytest.raises(DataError, match="24"):
        akld(real[0], constant(0.1, (24, 24, 3)))


def test_at_most_fifty_samples_count():
    samples = [constant(0.02)] * 50 + [constant(0.04)] * 50
    assert mean_akld([constant(0.02)], [samples]) == 0


def test_a_right_draw_scores_the_floor_and_a_wrong_one_more():
    real = [noise(seed) for seed in range(4)]
    right = [[noise(10 + seed), noise(20 + seed)] for seed in range(4)]
    flat = [[0.04 * noise(seed, 1.0)[:, ::-1] for seed in (5, 6)] for _ in range(4)]
    generator = np.random.default_rng(0)
    floor = akld_self_floor(right, generator)
    assert floor > 0.02  # not zero at perfection
    assert mean_akld(real, right) == pytest.approx(floor, rel=0.05)
    assert mean_akld(real, flat) > 2 * floor
    stand_in = akld_self_floor([samples[:1] for samples in right], generator)
    assert stand_in == pytest.approx(floor, rel=0.15)


def test_floor_of_one_sample_follows_the_generator():
    one = [[noise(0)]]
    first, again = (akld_self_floor(one, np.random.default_rng(3)) for _ in range(2))
    assert first == again
    assert first != akld_self_floor(one, np.random.default_rng(4))
    assert akld_self_floor([[constant(0.0)]], np.random.default_rng(0)) == 0
