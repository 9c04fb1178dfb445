"""Kernels: read from files, applied without moving the picture."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.io import savemat

from deflow_cli.data.blur.kernels import BlurKernel, blur, blur_and_downsample, load_kernels, place_kernel
from deflow_cli.data.images.resize import downsample
from deflow_cli.errors import ConfigError, DataError


def gaussian(size, sigma, centre=None, skew=1.0):
    """A kernel of sum 1 with its peak at ``centre`` (y, x; default: size // 2)."""
    y0, x0 = centre or (size // 2, size // 2)
    y, x = np.mgrid[:size, :size]
    weights = np.exp(-(((y - y0) / sigma) ** 2 + ((x - x0) / (skew * sigma)) ** 2) / 2)
    return weights / weights.sum()


def kernel(weights):
    return BlurKernel("k.npy", "0", weights)


def ramp(height, width):
    """Brightness that rises steadily: a displaced result is brighter or darker at once."""
    y, x = np.mgrid[:height, :width]
    return np.stack([20 + 2 * x, 20 + 2 * y, 20 + x + y], -1).astype(np.uint8)


def test_files_of_a_folder(tmp_path):
    (tmp_path / "b").mkdir()
    savemat(tmp_path / "b/k_x4.mat", {"Kernel": 3 * gaussian(13, 2.0)})
    np.save(tmp_path / "a.npy", gaussian(7, 1.0))
    (tmp_path / "notes.txt").write_text("not a kernel")
    found = load_kernels(tmp_path)
    assert [item.file for item in found] == ["a.npy", "b/k_x4.mat"]
    assert [item.weights.shape for item in found] == [(7, 7), (13, 13)]
    assert [item.weights.sum() for item in found] == pytest.approx([1, 1])
    assert all(len(item.sha256) == 64 for item in found)


@pytest.mark.parametrize(
    ("name", "write", "word"),
    [
        ("k.npy", lambda p: np.save(p, np.zeros((3, 3))), "sum is 0"),
        ("k.npy", lambda p: np.save(p, np.ones(5)), "shape (5,)"),
        ("k.npy", lambda p: p.write_bytes(b"no"), "not a readable kernel"),
        ("k.mat", lambda p: savemat(p, {"kernel": np.ones((3, 3))}), "no key Kernel"),
        ("k.npy", lambda p: np.save(p, np.array([[np.nan]])), "nan"),
    ],
)
def test_bad_files_are_named(tmp_path, name, write, word):
    write(tmp_path / name)
    with pytest.raises(DataError) as caught:
        load_kernels(tmp_path)
    assert name in str(caught.value)
    assert word in str(caught.value)


def test_a_folder_without_kernels(tmp_path):
    with pytest.raises(DataError, match="holds no blur kernels"):
        load_kernels(tmp_path)


@pytest.mark.parametrize("size", [7, 12, 25])
def test_blur_is_scipys_correlation_with_mirrored_edges(size):
    rng = np.random.default_rng(size)
    image = rng.integers(0, 256, (40, 33, 3), dtype=np.uint8)
    weights = rng.random((size, size))
    weights /= weights.sum()
    expected = np.stack(
        [ndimage.correlate(image[..., c].astype(float), weights, mode="reflect") for c in range(3)], -1
    )
    assert blur(image, kernel(weights)) == pytest.approx(expected, abs=1e-8)


def test_kernels_are_moved_only_where_they_are_off():
    centred = kernel(gaussian(13, 1.5))
    assert place_kernel(centred, 0.0) is centred
    moved = place_kernel(centred, 1.5)
    assert moved.displacement == pytest.approx((1.5, 1.5), abs=1e-3)
    assert moved.weights.sum() == pytest.approx(1)
    back = place_kernel(moved, 0.0)
    inner = (back.weights.shape[0] - 13) // 2
    assert back.weights[inner : inner + 13, inner : inner + 13] == pytest.approx(centred.weights, abs=2e-3)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("sampling", ["bicubic", "direct"])
@pytest.mark.parametrize("off", [0.0, 1.5])
def test_the_result_lies_where_bicubic_has_it(factor, sampling, off):
    """KernelGAN's kernels are off centre by (factor - 1) / 2, others are not: neither moves the picture."""
    image = ramp(72, 72)
    weights = gaussian(25, 1.8, (12 + off, 12 + off), skew=1.3)
    result = blur_and_downsample(image, kernel(weights), factor, "matlab-double", sampling) * 255
    expected = downsample(image, factor, "matlab-double") * 255
    rim = -(-18 // factor)
    inside = (slice(rim, -rim), slice(rim, -rim))
    assert result.shape == expected.shape
    assert result[inside] == pytest.approx(expected[inside], abs=0.05)  # a px is 2 grey levels here


def test_direct_sampling_takes_every_pixel_of_the_blurred_picture():
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    weights = place_kernel(kernel(gaussian(13, 1.0)), 1.5)
    blurred = blur(image, weights)
    result = blur_and_downsample(image, weights, 4, "matlab", "direct")
    assert np.array_equal(result, np.clip(np.floor(blurred[::4, ::4] + 0.5), 0, 255).astype(np.uint8))


def test_a_delta_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    delta = kernel(np.pad(np.ones((1, 1)), 3))
    for rule in ("matlab", "deflow", "matlab-double"):
        assert np.array_equal(blur_and_downsample(image, delta, 2, rule), downsample(image, 2, rule))


def test_unknown_sampling():
    with pytest.raises(ConfigError, match="nearest"):
        blur_and_downsample(ramp(8, 8), kernel(np.ones((1, 1))), 2, "matlab", "nearest")
