"""Patch features: named, finite, they move with the law and hardly with the scene."""

import numpy as np
import pytest

from deflow_cli.errors import DataError
from deflow_cli.metrics.distances.kid import robust_scale
from deflow_cli.metrics.distances.patch_features import NAMES, patch_features
from tests.metrics.noise.noisy_scenes import Law, noisy


def test_shape_and_values() -> None:
    images = [*noisy(Law(), 2, seed=0, size=200), np.full((130, 70, 3), 9, dtype=np.uint8)]
    features = patch_features(images)
    assert [f.shape for f in features] == [(5, len(NAMES)), (5, len(NAMES)), (1, len(NAMES))]
    assert all(np.isfinite(f).all() for f in features)
    np.testing.assert_array_equal(features[1], patch_features(images[1:2])[0])
    assert len(set(NAMES)) == len(NAMES)


def test_nothing_to_see_gives_no_rows() -> None:
    small, clipped = np.zeros((63, 90, 3), dtype=np.uint8), np.full((128, 128, 3), 255, dtype=np.uint8)
    assert [f.shape for f in patch_features([small, clipped])] == [(0, len(NAMES))] * 2
    with pytest.raises(DataError, match="30 px"):
        patch_features([small], side=30)


def test_known_values_on_white_noise() -> None:
    rng = np.random.default_rng(0)
    image = np.clip(np.rint(128 + 12 * rng.standard_normal((512, 512, 3))), 0, 255).astype(np.uint8)
    means = dict(zip(NAMES, patch_features([image])[0].mean(0), strict=True))
    assert means["1/1 log std red"] == pytest.approx(np.log(12 * 0.943 + 0.5), abs=0.03)
    assert means["1/1 correlation red/blue"] == pytest.approx(0.0, abs=0.03)
    # halving averages 2 x 2 values
    assert means["1/2 log std red"] == pytest.approx(np.log(6 * 0.943 + 0.5), abs=0.04)
    # the filter's own: it correlates neighbours by about -2 x 70 x 56 / 256^2 + sum of products
    assert means["1/1 luma lag (0, 1)"] == pytest.approx(-0.09, abs=0.04)
    assert 0.75 < means["1/1 MSCN shape"] < 0.88


@pytest.mark.parametrize(
    ("law", "name"),
    [
        (Law(14.0, 0.0, 0.7), "1/1 log std luma"),
        (Law(10.0, 0.0, 0.0), "1/1 luma lag (0, 1)"),
        (Law(10.0, 0.0, 0.7, (1.4, 1.0, 1.0)), "1/1 log std red"),
        (Law(10.0, 0.0, 0.7, (1.0, 1.0, 1.0), 0.8), "1/1 correlation red/green"),
    ],
)
def test_a_law_moves_its_feature_more_than_scenes_do(law: Law, name: str) -> None:
    base = Law(10.0, 0.0, 0.7)
    column = NAMES.index(name)
    real, other, wrong = (
        np.concatenate(patch_features(noisy(own, 10, seed=seed)))[:, column]
        for own, seed in ((base, 0), (base, 1), (law, 2))
    )
    centre, spread = robust_scale(real[:, None])
    assert abs(np.median(other) - centre[0]) < 0.6 * spread[0]
    assert abs(np.median(wrong) - centre[0]) > 2.0 * spread[0]
