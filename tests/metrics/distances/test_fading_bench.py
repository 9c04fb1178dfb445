"""The bench of fading carries means over, and finds fading where there is some."""

from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def fading(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import fading

    return fading


def blocks(seed, count=40):
    rng = np.random.default_rng(seed)
    return [rng.uniform(0, 1, (500, 3)).astype(np.float32) for _ in range(count)]


def test_means_and_deviations_are_carried_over(fading):
    clean, degraded = blocks(0), [0.5 * image + np.float32(0.2) for image in blocks(1)]
    mapped = fading.statistics(clean, degraded)(np.concatenate(clean).astype(float))
    there = np.concatenate(degraded)
    np.testing.assert_allclose(mapped.mean(0), there.mean(0), atol=1e-6)
    np.testing.assert_allclose(mapped.std(0), there.std(0), rtol=1e-5)


def test_tone_finds_fading_and_leaves_the_rest(fading):
    clean = blocks(0)
    faded = fading.tone(clean, [0.7 * image + np.float32(0.1) for image in blocks(1)])
    np.testing.assert_allclose(faded(np.full((1, 3), 0.5)), 0.45, atol=0.01)
    same = fading.tone(clean, blocks(2))
    np.testing.assert_allclose(same(np.full((1, 3), 0.5)), 0.5)
