"""KID: unbiased, at its floor for the same law on other scenes, growing with the wrongness of others."""

import time

import numpy as np
import pytest

from deflow_cli.errors import DataError
from deflow_cli.metrics.distances.kid import kid, kid_difference, robust_scale
from deflow_cli.metrics.distances.patch_features import patch_features
from tests.metrics.noise.noisy_scenes import Law, noisy

Features = list[np.ndarray]


def gaussian(rng: np.random.Generator, images: int, shift: float = 0.0, own: float = 0.0) -> Features:
    """Features of images of 8 patches; ``own``: std of what an image's patches have in common."""
    return [shift + own * rng.standard_normal(6) + rng.standard_normal((8, 6)) for _ in range(images)]


def seeded(value: int = 0) -> np.random.Generator:
    return np.random.default_rng(value)


def test_value_is_the_textbook_sum() -> None:
    rng = seeded()
    real, fake = gaussian(rng, 5), gaussian(rng, 6, 0.5)
    result = kid(real, fake, seeded(), standardise=False)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean((a @ b.T / 6 + 1) ** 3))

    def within(images: Features) -> float:
        return np.mean([kernel(a, b) for i, a in enumerate(images) for j, b in enumerate(images) if i != j])

    cross = np.mean([kernel(a, b) for a in real for b in fake])
    assert result.value == pytest.approx(within(real) + within(fake) - 2 * cross)


def test_unbiased_and_the_interval_covers_though_patches_depend_on_images() -> None:
    results = [
        kid(gaussian(r, 20, 0, 0.7), gaussian(r, 20, 0, 0.7), r, standardise=False)
        for r in map(seeded, range(40))
    ]
    values = np.array([r.value for r in results])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(40)
    covered = np.mean([r.low <= 0 <= r.high for r in results])
    assert covered > 0.8
    assert np.mean([r.value <= r.floor_high for r in results]) > 0.85
    assert abs(np.mean([r.floor for r in results])) < 0.1


def test_shift_is_seen_and_grows() -> None:
    rng = seeded(1)
    real = gaussian(rng, 20)
    results = [kid(real, gaussian(rng, 20, shift), seeded()) for shift in (0.0, 0.4, 0.8, 1.6)]
    values = [r.value for r in results]
    assert values == sorted(values)
    assert values[0] < results[0].floor_high
    assert results[1].low > results[1].floor_high


def test_deterministic_balanced_and_left_out() -> None:
    rng = seeded(2)
    real, fake = gaussian(rng, 8), gaussian(rng, 8, 1.0)
    assert kid(real, fake, seeded(3)) == kid(real, fake, seeded(3))
    nothing = np.empty((0, 6))
    assert kid([*real, nothing], [nothing, *fake], seeded(3)) == kid(real, fake, seeded(3))
    # an image of many patches weighs as one of few
    heavy = [np.repeat(real[0], 4, axis=0), *real[1:]]
    few, many = (kid(r, fake, seeded(), standardise=False).value for r in (real, heavy))
    assert many == pytest.approx(few)


def test_constant_features_and_wild_ones() -> None:
    rng = seeded(4)
    real, fake = gaussian(rng, 8), gaussian(rng, 8)
    for image in (*real, *fake):
        image[:, 2] = 3.0
    real[0][0, 0] = 1e9
    assert abs(kid(real, fake, seeded()).value) < 2.0
    centre, spread = robust_scale(np.concatenate(real))
    assert (centre[2], spread[2]) == (3.0, 1.0)


def test_refusals() -> None:
    rng = seeded()
    with pytest.raises(DataError, match="3 synthetic images"):
        kid(gaussian(rng, 9), gaussian(rng, 3), rng)
    with pytest.raises(DataError, match="not equally many"):
        kid(gaussian(rng, 4), [image[:, :5] for image in gaussian(rng, 4)], rng)
    assert np.isnan(kid(gaussian(rng, 7), gaussian(rng, 4), rng).floor)


@pytest.mark.slow(seconds=9)
def test_laws_of_noise_on_other_scenes() -> None:
    law = Law(10.0, 0.6, 0.7, (1.0, 0.8, 1.2), 0.3)
    real = patch_features(noisy(law, 20, seed=0))

    def measure(std: float, blur: float, seed: int = 1):
        other = Law(std, 0.6, blur, (1.0, 0.8, 1.2), 0.3)
        return kid(real, patch_features(noisy(other, 20, seed=seed)), seeded())

    same = measure(10.0, 0.7)
    assert same.low < same.floor_high
    assert same.value < 1.5
    stronger = [measure(std, 0.7).value for std in (11.5, 13.0, 16.0)]
    assert [same.value, *stronger] == sorted([same.value, *stronger])
    assert stronger[0] > 5 * abs(same.value)
    whiter = [measure(10.0, blur).value for blur in (0.6, 0.5, 0.0)]
    assert [same.value, *whiter] == sorted([same.value, *whiter])
    assert measure(10.0, 0.0).low > 100


def test_a_hundred_images_take_seconds() -> None:
    rng = seeded()
    sides = [[rng.standard_normal((32, 72)) for _ in range(100)] for _ in range(2)]
    start = time.process_time()
    kid(*sides, rng)
    assert time.process_time() - start < 8


def test_difference_is_that_of_the_two_and_its_error_covers_chance() -> None:
    rng = seeded(2)
    real = gaussian(rng, 20, 0, 0.7)
    near, far = gaussian(rng, 20, 0.3, 0.7), gaussian(rng, 20, 1.2, 0.7)
    value, error = kid_difference(real, far, near, seeded())
    assert value == pytest.approx(kid(real, far, seeded()).value - kid(real, near, seeded()).value)
    assert value > 2 * error > 0
    within = []
    for random in map(seeded, range(40)):  # two draws of one law on the same pictures
        scenes = [0.7 * random.standard_normal(6) for _ in range(20)]
        one, other = ([s + random.standard_normal((8, 6)) for s in scenes] for _ in range(2))
        value, error = kid_difference(real, one, other, random)
        within.append(abs(value) < 2 * error)
    assert np.mean(within) > 0.8


def test_difference_needs_four_pictures_of_each() -> None:
    rng = seeded()
    four, three = gaussian(rng, 4), gaussian(rng, 3)
    for real, fake in ((four, three), (three, four)):
        with pytest.raises(DataError, match="at least 4 are needed"):
            kid_difference(real, fake, fake, rng)
