"""Two-sample test: chance for the same law on other scenes, near certainty for wrong ones."""

import numpy as np
import pytest
import torch

from deflow_cli.errors import DataError
from deflow_cli.metrics.distances.two_sample import _folds as folds_of
from deflow_cli.metrics.distances.two_sample import two_sample
from tests.metrics.noise.noisy_scenes import Law, noisy

LAW = Law(10.0, 0.4, 0.7, (1.0, 0.8, 1.2), 0.3)
Images = list[np.ndarray]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def real() -> Images:
    return noisy(LAW, 16, seed=0, size=128)


@pytest.mark.slow(seconds=12)
def test_same_law_on_other_scenes_is_chance_and_deterministic(real: Images) -> None:
    fake = noisy(LAW, 16, seed=1, size=128)
    result = two_sample(real, fake, seed=0, steps=60)
    assert result.low < 0.55
    assert abs(result.accuracy - 0.5) < 0.15
    assert 0.02 < result.high - result.accuracy < 0.2
    assert len(result.per_image_real) == len(result.per_image_fake) == 16
    quick = two_sample(real, fake, seed=3, quick=True)
    again = two_sample(real, fake, seed=3, quick=True)
    np.testing.assert_array_equal(quick.per_image_real, again.per_image_real)
    np.testing.assert_array_equal(quick.per_image_fake, again.per_image_fake)
    assert abs(quick.accuracy - 0.5) < 0.15


@pytest.mark.parametrize(
    "law",
    [
        Law(13.0, 0.4, 0.7, (1.0, 0.8, 1.2), 0.3),
        Law(10.0, 0.4, 0.7, (1.3, 0.8, 0.8), 0.3),
        Law(10.0, 0.4, 0.0, (1.0, 0.8, 1.2), 0.3),
        Law(10.0, 0.4, 0.7, (1.0, 0.8, 1.2), 0.9),
    ],
    ids=["level", "colour", "white", "channels"],
)
def test_wrong_laws_are_told(real: Images, law: Law) -> None:
    result = two_sample(real, noisy(law, 16, seed=2, size=128), seed=0, quick=True)
    assert result.accuracy > 0.8
    assert result.low > result.chance


def test_no_image_is_trained_on_and_measured() -> None:
    """Each image its own law: nothing carries over, so held-out images are at chance."""
    rng = np.random.default_rng(5)
    sides = []
    for side in range(2):
        laws = [
            Law(rng.uniform(4, 16), 0, rng.uniform(0, 1), tuple(rng.uniform(0.6, 1.4, 3))) for _ in range(12)
        ]
        sides.append([noisy(law, 1, seed=50 + 20 * side + i, size=128)[0] for i, law in enumerate(laws)])
    result = two_sample(*sides, seed=0, quick=True)
    assert abs(result.accuracy - 0.5) < 0.25
    assert result.low < 0.6


def test_groups_stay_on_one_side() -> None:
    indices = [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3]]
    groups = (["a", "a", "b", "c", "d", "x"], ["d", "b", "y", "z"])
    real, fake = folds_of(indices, groups, 2)
    fold: dict[str, set[int]] = {}
    for side, keys in ((real, groups[0]), (fake, groups[1])):
        for index, key in enumerate(keys):
            fold.setdefault(key, set()).add(side[index])
    assert all(len(found) == 1 for found in fold.values())
    for side in (real, fake):
        assert set(side.values()) == {0, 1}
    # without groups: runs of neighbours
    plain = folds_of(indices, None, 2)
    assert [plain[0][i] for i in range(6)] == [0, 0, 0, 1, 1, 1]
    assert [plain[1][i] for i in range(4)] == [0, 0, 1, 1]


def test_unusable_images_are_told(real: Images) -> None:
    clipped = np.full((128, 128, 3), 255, dtype=np.uint8)
    fake = [clipped, *noisy(Law(20.0), 7, seed=4, size=128)]
    result = two_sample(real[:8], fake, seed=0, steps=10)
    assert np.isnan(result.per_image_fake[0])
    assert not np.isnan(result.per_image_fake[1:]).any()
    assert not np.isnan(result.accuracy)
    with pytest.raises(DataError, match="3 synthetic images have"):
        two_sample(real, [clipped, *fake[:4]], seed=0)
