"""Lines between quantiles: known ones recovered with honest errors, noise and clipping accounted for."""

from __future__ import annotations

import numpy as np
import pytest

from deflow_cli.arrays import Array
from deflow_cli.metrics.distances.quantile_lines import (
    BINS,
    QuantileLines,
    groups_of,
    histogram,
    least_images,
    t_squared_by_chance,
)

RNG = np.random.default_rng


def images(seed: int, count: int = 64) -> list[Array]:
    """Values of images of one channel, each of a centre and a width of its own: N x 1 each."""
    rng = RNG(seed)
    return [
        np.clip(rng.normal(rng.uniform(0.35, 0.65), rng.uniform(0.05, 0.12), (4000, 1)), 0.02, 0.98)
        for _ in range(count)
    ]


def histograms(values: list[Array]) -> list[Array]:
    return [histogram(each) for each in values]


def test_a_line_is_recovered() -> None:
    found = []
    for seed in range(12):
        after = [0.7 * each + 0.2 for each in images(50 + seed)]
        found.append(QuantileLines(histograms(images(seed)), histograms(after), [0.0]).found[0])
    np.testing.assert_allclose(np.mean(found, axis=0), [0.7, 0.2], atol=0.02)
    np.testing.assert_allclose(found, np.broadcast_to([0.7, 0.2], (12, 2)), atol=0.1)


def test_errors_are_those_of_other_draws() -> None:
    """The spread of lines between folders of the same kind, which is what the covariance is to tell."""
    found, told = [], []
    for seed in range(40):
        lines = QuantileLines(histograms(images(100 + seed)), histograms(images(200 + seed)), [0.0])
        found.append(lines.found[0])
        told.append(np.sqrt(np.diag(lines.covariance)))
    np.testing.assert_allclose(np.std(found, axis=0), np.mean(told, axis=0), rtol=0.4)


def test_noise_is_no_slope() -> None:
    rng = RNG(3)
    noisy = [each + rng.normal(0, 0.05, each.shape) for each in images(2)]
    blind = QuantileLines(histograms(images(1)), histograms(noisy), [0.0]).found[0]
    told = QuantileLines(histograms(images(1)), histograms(noisy), [0.05])
    assert blind[0] - told.found[0, 0] > 0.03
    assert abs(told.found[0, 0] - 1) < 3 * told.covariance[0, 0] ** 0.5


def test_clipping_of_noise_is_no_slope() -> None:
    """Means of 400 pixels, half of them black and white, of which clipping takes 0.04 of a noise of 0.1."""
    rng = RNG(4)

    def folder(noise: float) -> list[Array]:
        values = [np.concatenate((each[:2000], rng.choice([0.0, 1.0], (2000, 1)))) for each in images(5)]
        drawn = [each + noise * rng.standard_normal((1, 400)) for each in values]
        return histograms([each.clip(0, 1).mean(1, keepdims=True) for each in drawn])

    blind = QuantileLines(folder(0.0), folder(0.1), [0.0], [0.0]).found[0]
    told = QuantileLines(folder(0.0), folder(0.1), [0.0], [0.1]).found[0]
    assert blind[0] == pytest.approx(0.92, abs=0.01)
    assert told == pytest.approx([1, 0], abs=0.025)


def test_other_shapes_of_folders_raise_the_errors() -> None:
    """Quantiles on no line: half of the images darker, in one folder alone."""
    plain = QuantileLines(histograms(images(1)), histograms(images(2)), [0.0])
    bent = [each**2 if index % 2 else each for index, each in enumerate(images(2))]
    other = QuantileLines(histograms(images(1)), histograms(bent), [0.0])
    assert other.covariance[0, 0] > 2 * plain.covariance[0, 0]


def test_the_bound_is_hotellings() -> None:
    """T^2 of a mean of six numbers, with the covariance of thirty draws, is beyond it once in a hundred."""
    draws = RNG(2).standard_normal((20_000, 30, 6))
    mean = draws.mean(1)
    centred = draws - mean[:, None]
    covariance = np.einsum("ngi,ngj->nij", centred, centred) / 29 / 30
    squares = np.einsum("ni,ni->n", mean, np.linalg.solve(covariance, mean[..., None])[..., 0])
    assert np.mean(squares > t_squared_by_chance(6, 30, 0.01)) == pytest.approx(0.01, abs=0.002)


def test_groups_and_histograms() -> None:
    assert (groups_of(40, 900), groups_of(900, 900)) == (10, 30)
    assert least_images(6) == 32
    shares = histogram(np.array([[0.0, 1.0], [0.5, -0.2], [0.5, 1.7]]))
    assert shares.shape == (2, BINS)
    assert shares[0, [0, BINS // 2]] == pytest.approx([1 / 3, 2 / 3])
    assert shares[1, [0, BINS - 1]] == pytest.approx([1 / 3, 2 / 3])
