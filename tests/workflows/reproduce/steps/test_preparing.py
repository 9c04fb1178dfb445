"""Preparing: clean images made small as DeFlow's data were, plainly or by a kernel, each once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deflow_cli.data.blur.kernels import BlurKernel, blur_and_downsample
from deflow_cli.data.images.files import Image, read_rgb8, write_image
from deflow_cli.data.images.resize import downsample
from deflow_cli.errors import DataError
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.reproduce.steps.preparing import make_small


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A folder with one picture of 75 x 49 px and another, below it, of 64 x 64."""
    random = np.random.default_rng(0)
    paths = []
    for name, height, width in (("a.png", 75, 49), ("below/b.png", 64, 64)):
        path = tmp_path / "hr" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, Image(random.integers(0, 256, (height, width, 3), dtype=np.uint8)))
        paths.append(path)
    return tmp_path / "hr", paths


def kernel(name: str, side: int) -> BlurKernel:
    return BlurKernel(name, name, np.full((side, side), 1 / side**2))


def test_small_images_are_cropped_and_resized_by_the_rule(pictures: tuple[Path, list[Path]]) -> None:
    root, paths = pictures
    make_small(root, paths, root / "small", 32, (), Silent())
    found = read_rgb8(root / "small" / "a.png")
    assert found.shape == (16, 8, 3)
    assert np.array_equal(found, downsample(read_rgb8(paths[0])[:64, :32], 4, "deflow"))
    assert (root / "small" / "below" / "b.png").is_file()


def test_kernels_are_the_whole_down_sampling(pictures: tuple[Path, list[Path]]) -> None:
    root, paths = pictures
    kernels = [kernel("one", 5), kernel("other", 9)]
    make_small(root, paths, root / "small", 4, kernels, Silent())
    found = read_rgb8(root / "small" / "below" / "b.png")
    expected = [blur_and_downsample(read_rgb8(paths[1]), one, 4, "deflow", "direct") for one in kernels]
    assert sum(np.array_equal(found, one) for one in expected) == 1


def test_what_is_there_is_not_made_again(pictures: tuple[Path, list[Path]]) -> None:
    root, paths = pictures
    write_image(root / "small" / "a.png", Image(np.zeros((2, 2, 3), np.uint8)))
    make_small(root, paths, root / "small", 4, (), Silent())
    assert read_rgb8(root / "small" / "a.png").shape == (2, 2, 3)
    assert read_rgb8(root / "small" / "below" / "b.png").shape == (16, 16, 3)


def test_an_image_that_is_too_small_is_named(pictures: tuple[Path, list[Path]]) -> None:
    root, paths = pictures
    with pytest.raises(DataError, match=r"a\.png: smaller than 64 px"):
        make_small(root, paths, root / "small", 64, (), Silent())
