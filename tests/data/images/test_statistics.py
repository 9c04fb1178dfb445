"""Channel statistics: right numbers, right errors, a verdict that knows noise from colour."""

from pathlib import Path

import numpy as np
import pytest

from deflow_cli.data.images.files import Image, write_image
from deflow_cli.data.images.image_cache import ImageCache
from deflow_cli.data.images.statistics import ChannelStatistics, channel_statistics, differ
from deflow_cli.errors import DataError


def pool(folder: Path, seeds: range, *, gain: float = 1.0, noise: float = 0.0) -> ImageCache:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        coarse = rng.uniform(30, 220, (4, 6, 3)) * [gain, 1, 1]
        pixels = coarse.repeat(8, 0).repeat(8, 1) + noise * rng.standard_normal((32, 48, 3))
        write_image(folder / f"{seed}.png", Image(np.clip(pixels + 0.5, 0, 255).astype(np.uint8)))
    return ImageCache(sorted(folder.iterdir()))


def test_numbers_are_those_of_all_pixels(tmp_path: Path) -> None:
    images = pool(tmp_path, range(5))
    found = channel_statistics(images)
    pixels = np.stack([images.get(i) for i in range(5)]).reshape(-1, 3) / 255
    np.testing.assert_allclose(found.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(0), rtol=1e-9)
    small = channel_statistics(images, downsample=4)
    np.testing.assert_allclose(small.mean, found.mean, atol=2e-3)
    assert all(a < b for a, b in zip(small.std, found.std, strict=True))
    assert len(channel_statistics(images, max_images=3).image_means) == 3


def test_errors_are_those_of_a_bootstrap() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(0.5, 0.1, (200, 3))
    squares = means**2 + rng.uniform(0.01, 0.06, (200, 3))

    def statistics(a: np.ndarray, b: np.ndarray) -> ChannelStatistics:
        mean, std = a.mean(0), np.sqrt(b.mean(0) - a.mean(0) ** 2)
        return ChannelStatistics(tuple(mean), tuple(std), a, b)

    whole = statistics(means, squares)
    draws = [statistics(means[i], squares[i]) for i in rng.integers(200, size=(2000, 200))]
    np.testing.assert_allclose(whole.mean_errors, np.std([d.mean for d in draws], axis=0), rtol=0.08)
    np.testing.assert_allclose(whole.std_errors, np.std([d.std for d in draws], axis=0), rtol=0.08)


def test_colours_differ_and_noise_does_not(tmp_path: Path) -> None:
    clean = channel_statistics(pool(tmp_path / "clean", range(60)), downsample=4)
    noisy = channel_statistics(pool(tmp_path / "noisy", range(100, 160), noise=15), downsample=4)
    faded = channel_statistics(pool(tmp_path / "faded", range(200, 260), gain=0.7), downsample=4)
    assert not differ(clean, noisy).differs
    assert "within" in differ(clean, noisy).text
    verdict = differ(clean, faded)
    assert verdict.differs
    assert verdict.z_mean[0] < -4
    assert abs(verdict.z_mean[1]) < 4
    assert "the red" in verdict.text
    assert "beyond" in verdict.text
    one = channel_statistics(pool(tmp_path / "one", range(1)))
    assert not differ(one, faded).differs


def test_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("junk")
    with pytest.raises(DataError, match="no image can be read"):
        channel_statistics(ImageCache([tmp_path / "a.png"]))
