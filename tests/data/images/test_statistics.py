"""Channel statistics: right numbers."""

from pathlib import Path

import numpy as np
import pytest

from deflow_cli.data.images.files import Image, write_image
from deflow_cli.data.images.image_cache import ImageCache
from deflow_cli.data.images.statistics import channel_statistics
from deflow_cli.errors import DataError


def pool(folder: Path, seeds: range, *, gain: float = 1.0, noise: float = 0.0) -> ImageCache:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        coarse = rng.uniform(30, 220, (4, 6, 3)) * [gain, 1, 1]
        pixels = coarse.repeat(8, 0).repeat(8, 1) + noise * rng.standard_normal((32, 48, 3))
        write_image(folder / f"{seed}.png", Image(np.clip(pixels + 0.5, 0, 255).astype(np.uint8)))
    return ImageCache(sorted(folder.iterdir()))


def first(images: ImageCache) -> np.ndarray:
    return images.get(0).reshape(-1, 3).mean(0) / 255


def test_numbers_are_those_of_all_pixels(tmp_path: Path) -> None:
    images = pool(tmp_path, range(5))
    found = channel_statistics(images)
    pixels = np.stack([images.get(i) for i in range(5)]).reshape(-1, 3) / 255
    np.testing.assert_allclose(found.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(0), rtol=1e-9)
    small = channel_statistics(images, downsample=4)
    np.testing.assert_allclose(small.mean, found.mean, atol=2e-3)
    assert all(a < b for a, b in zip(small.std, found.std, strict=True))
    np.testing.assert_allclose(channel_statistics(images, max_images=1).mean, first(images), rtol=1e-12)


def test_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("junk")
    with pytest.raises(DataError, match="no image can be read"):
        channel_statistics(ImageCache([tmp_path / "a.png"]))
