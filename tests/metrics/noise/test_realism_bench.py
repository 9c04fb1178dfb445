"""The realism bench's plug point measures a degrader handed to it."""

from pathlib import Path

import numpy as np
import pytest
import torch

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import realism

    return realism


def make_pairs(bench, count=3, size=96):
    generator = np.random.default_rng(0)
    clean = np.full((size, size, 3), 120, np.uint8)
    return [
        bench.Pair(
            str(n), clean, np.rint(clean + 10 * generator.standard_normal(clean.shape)).astype(np.uint8)
        )
        for n in range(count)
    ]


def test_right_noise_scores_well_and_no_noise_is_seen(bench):
    pairs = make_pairs(bench)

    def white(image_bchw, generator):
        return image_bchw + 10 / 255 * torch.randn(image_bchw.shape, generator=generator)

    good = bench.measure("white", white, pairs)
    none = bench.measure("nothing", lambda image_bchw, generator: image_bchw, pairs)
    assert good["std_ratio"] == pytest.approx(1, abs=0.02)
    assert good["kl"] < 0.005
    assert good["psd_db"] < 1
    assert none["std_ratio"] == 0
    assert none["psd_db"] > 20
    assert none["low_pass_psnr"] == float("inf")


def test_one_seed_gives_one_result_whatever_the_other_pictures(bench):
    pairs = make_pairs(bench)

    def white(image_bchw, generator):
        return image_bchw + 0.05 * torch.randn(image_bchw.shape, generator=generator)

    whole = bench.apply(white, pairs)
    assert np.array_equal(bench.apply(white, pairs[:1])[0], whole[0])
    assert not np.array_equal(whole[0], whole[1])


def test_table_has_a_row_per_degrader(bench):
    pairs = make_pairs(bench)
    real = bench.real_statistics(pairs)
    rows = [bench.figures("copy", pairs, [pair.noisy for pair in pairs], real)]
    lines = bench.table(rows, real, pairs).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert lines[3].startswith("| copy | 0.0000 |")
